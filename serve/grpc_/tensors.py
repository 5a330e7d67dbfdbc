"""Requests and responses of gRPC, brought into the form of the REST calls and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from serve import messages as m
from serve.answers.tensors import OUTPUTS, datatype_of, parameters_of, raw_from
from serve.grpc_ import open_inference_pb2 as pb
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.inputs.strict_json import check_id
from serve.refusals import RefusedError
from serve.repository.online import Online

MOST = 8
"""Greatest number of inputs, outputs, axes and parameters that are looked at."""
_CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
_ELEMENTS = {"FP32": "<f4", "FP64": "<f8"}


def request_of(given: Any) -> m.InferRequest:
    """Checks all of a request but the data of its tensor, by the rules of the REST call.

    Args:
        given: ``ModelInferRequest``.

    Returns:
        The request. Outputs are binary where it says so, or where the input is raw and it says nothing.

    Raises:
        RefusedError: it has too many parts or an unprintable id, or asks for raw and other outputs at once.
        ValidationError: it has an unknown name or datatype, or a parameter that is not supported.
    """
    parts = [given.inputs, given.outputs, given.parameters]
    parts += [one.parameters for one in (*given.inputs[:MOST], *given.outputs[:MOST])]
    if max(map(len, parts)) > MOST or any(len(one.shape) > MOST for one in given.inputs):
        raise RefusedError(f"at most {MOST} inputs, outputs, axes and parameters")
    inputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": list(one.shape),
            "parameters": _plain(one.parameters),
        }
        for one in given.inputs
    ]
    outputs = [{"name": one.name, "parameters": _plain(one.parameters)} for one in given.outputs]
    parameters = {"binary_data_output": bool(given.raw_input_contents)} | _plain(given.parameters)
    asked = m.InferRequest.model_validate({"inputs": inputs, "outputs": outputs, "parameters": parameters})
    if given.id:
        asked = asked.model_copy(update={"id": check_id(given.id)})
    if len({asked.is_binary(output) for output in asked.outputs}) > 1:
        raise RefusedError("over gRPC all outputs are raw, or none is: give all the same binary_data")
    return asked


def raw_input(given: Any, tensor: m.InputTensor) -> bytes:
    """Returns the data of the only tensor of a request as a binary tensor.

    Args:
        given: ``ModelInferRequest``.
        tensor: the same, checked.

    Returns:
        Its bytes.

    Raises:
        RefusedError: the data are in another field than that of the datatype, in two, or not as many as
            ``binary_data_size`` says.
    """
    contents, raws, size = given.inputs[0].contents, given.raw_input_contents, tensor.parameters.binary_data_size
    filled = [field.name for field, _ in contents.ListFields()]
    if raws:
        if len(raws) > 1 or filled:
            raise RefusedError("the tensor is sent once: in raw_input_contents, or in contents")
        if size is not None and size != len(raws[0]):
            raise RefusedError("binary_data_size is not the length of raw_input_contents")
        return bytes(raws[0])
    field = _CONTENTS[tensor.datatype]
    if filled != [field] or size is not None:
        raise RefusedError(f"a tensor of {tensor.datatype} is sent in {field}, or in raw_input_contents")
    values = getattr(contents, field)
    if tensor.datatype in _ELEMENTS:
        return np.array(values, _ELEMENTS[tensor.datatype]).tobytes()
    if len(values) > MOST_RECORDS:
        raise RefusedError(f"at most {MOST_RECORDS} records a call; {len(values)} were sent")
    return b"".join(len(text).to_bytes(4, "little") + text for text in values)


def response_of(online: Online, asked: m.InferRequest, records: Records, outputs: dict[str, np.ndarray]) -> Any:
    """Returns the response.

    Args:
        online: the version that answered.
        asked: the request.
        records: of the request.
        outputs: all of them by name.

    Returns:
        ``ModelInferResponse``, with the hash of the weights as the parameter ``artefact``.
    """
    answer = pb.ModelInferResponse(model_name=online.name, model_version=online.version, id=asked.id)
    for name, text in {"artefact": online.artefact, **parameters_of(records)}.items():
        answer.parameters[name].string_param = text
    wanted: dict[str, bool] = {output.name: asked.is_binary(output) for output in asked.outputs}
    for name, raw in (wanted or dict.fromkeys(OUTPUTS, asked.parameters.binary_data_output)).items():
        array = outputs[name]
        tensor = answer.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        if raw:
            answer.raw_output_contents.append(raw_from(array))
        elif tensor.datatype == "FP32":
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
        else:
            tensor.contents.int64_contents.extend(array.ravel().tolist())
    return answer


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of parameters; None for one without a value."""
    return {
        name: None if (kind := value.WhichOneof("parameter_choice")) is None else getattr(value, kind)
        for name, value in parameters.items()
    }
