"""Calls of the Open Inference Protocol: tensors as input and output, in JSON or binary."""

from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from serve import messages as m
from serve.answers.metadata import metadata_of
from serve.answers.tensors import (
    datatype_of,
    outputs_of,
    parameters_of,
    raw_from,
    records_of_raw,
    refuse_datatype,
)
from serve.audit_log.decision import Hook
from serve.inputs.binary import HEADER, raw_of, split_body
from serve.inputs.numbers import tensor_of
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.inputs.strict_json import check_id
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from serve.routers.documented import add_call, documented
from serve.routers.noting import Note
from serve.routers.paths import MODEL, VERSION
from serve.routers.reading import parse, require_json
from serve.routers.replies import reply

_ALL = [m.OutputWanted(name="probabilities"), m.OutputWanted(name="class_index")]
"""What is answered where a request names no outputs."""


def add_v2(api: FastAPI, loaded: Loaded, log: Hook | None = None) -> None:
    """Adds the calls under ``/v2/models``.

    Args:
        api: the application.
        loaded: its models.
        log: takes what is answered.
    """

    async def infer(name: str, request: Request, version: str | None = None) -> Response:
        """Returns probabilities and classes of a tensor of records."""
        online = loaded.find(name, version)
        require_json(request)
        header, rest = split_body(await request.body(), request.headers.getlist(HEADER))
        asked = parse(header, m.InferRequest)
        if asked.model_name not in (None, name) or asked.model_version not in (None, "", online.version):
            raise RefusedError("model_name and model_version must be those of the path")
        if asked.id is not None:
            check_id(asked.id)
        records = _records(online, asked.inputs[0], rest)
        outputs = await outputs_of(online, records)
        await Note(log, online, "infer", request)(records, outputs["class_index"].tolist())
        return answer(online, asked, records, outputs)

    for path in (f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/versions/{VERSION}/infer"):
        add_call(api, path, infer, tags=["model"], **documented(m.InferRequest, m.InferResponse, binary=HEADER))

    @api.get(f"/v2/models/{MODEL}", tags=["model"])
    @api.get(f"/v2/models/{MODEL}/versions/{VERSION}", tags=["model"])
    async def metadata(name: str, version: str | None = None) -> m.ModelMetadata:
        """Returns what a caller must know to build a request."""
        return metadata_of(loaded.find(name, version), loaded.versions(name))


def records_of_tensor(online: Online, tensor: m.InputTensor) -> Records:
    """Brings a tensor of JSON numbers, or of texts, into the form that the model takes.

    Args:
        online: the version that answers.
        tensor: of the request; flat or nested.

    Returns:
        The records.

    Raises:
        RefusedError: its shape is not that of records, or its data are not of its shape.
    """
    data, model = tensor.data, online.model
    if data is None:
        raise RefusedError("a tensor needs data, or the parameter binary_data_size")
    refuse_datatype(model, tensor.datatype)
    if not model.reads_text:
        return model.take(tensor_of(data, tensor.shape, model.dataset.shape, most=MOST_RECORDS))
    if tensor.shape != [len(data)]:
        raise RefusedError("shape must be [records], as many as data holds", reason="shape")
    return model.read(data)


def answer(online: Online, asked: m.InferRequest, records: Records, outputs: dict[str, np.ndarray]) -> Response:
    """Returns the response: JSON, and after it the outputs that were asked for as binary tensors.

    Args:
        online: the version that answered.
        asked: the request.
        records: of the request.
        outputs: all of them by name.

    Returns:
        The response.
    """
    tensors, raws = list[dict[str, Any]](), list[bytes]()
    for wanted in asked.outputs or _ALL:
        array = outputs[wanted.name]
        about: dict[str, Any] = {"name": wanted.name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if asked.is_binary(wanted):
            raws.append(raw_from(array))
            about["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            about["data"] = array.ravel()
        tensors.append(about)
    content: dict[str, Any] = {**online.origin, **({"id": asked.id} if asked.id is not None else {})}
    content |= ({"parameters": parameters} if (parameters := parameters_of(records)) else {}) | {"outputs": tensors}
    if not raws:
        return reply(content)
    header = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {HEADER: str(len(header))}
    return Response(b"".join([header, *raws]), headers=headers, media_type="application/octet-stream")


def _records(online: Online, tensor: m.InputTensor, rest: memoryview | None) -> Records:
    """Brings the tensor of a request into the form that the model takes, wherever its data are."""
    raw = raw_of(rest, tensor.parameters.binary_data_size, beside_json=tensor.data is not None)
    if raw is None:
        return records_of_tensor(online, tensor)
    return records_of_raw(online.model, tensor.datatype, tensor.shape, raw)
