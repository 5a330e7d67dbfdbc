"""Calls of the Open Inference Protocol: tensors as input and output."""

from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import Response

from serve import messages as m
from serve.inputs.numbers import tensor_of
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.inputs.strict_json import check_id
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from serve.routers.documented import documented
from serve.routers.reading import read
from serve.routers.replies import reply


def add_v2(api: FastAPI, loaded: Loaded) -> None:
    """Adds the calls under ``/v2/models``.

    Args:
        api: the application.
        loaded: its models.
    """

    @api.get("/v2/models/{name}", tags=["model"])
    @api.get("/v2/models/{name}/versions/{version}", tags=["model"])
    async def metadata(name: str, version: str | None = None) -> m.ModelMetadata:
        return metadata_of(loaded.find(name, version), loaded.versions(name))

    about = documented(m.InferRequest, m.InferResponse)

    @api.post("/v2/models/{name}/infer", tags=["model"], **about)
    @api.post("/v2/models/{name}/versions/{version}/infer", tags=["model"], **about)
    async def infer(name: str, request: Request, version: str | None = None) -> Response:
        """Returns probabilities and classes of a tensor of records."""
        online = loaded.find(name, version)
        asked = await read(request, m.InferRequest)
        if asked.model_name not in (None, name) or asked.model_version not in (None, "", online.version):
            raise RefusedError("model_name and model_version must be those of the path")
        if asked.id is not None:
            check_id(asked.id)
        records = records_of_tensor(online, asked.inputs[0])
        outputs = outputs_of(online, await online.logits(records.x))
        wanted: list[str] = [output.name for output in asked.outputs] or list(outputs)
        tensors = [{"name": one, **_tensor(outputs[one])} for one in wanted]
        return reply({**online.origin, **({"id": asked.id} if asked.id is not None else {}), "outputs": tensors})


def metadata_of(online: Online, versions: list[str]) -> m.ModelMetadata:
    """Returns what a caller must know to build a request.

    Args:
        online: the version.
        versions: all loaded versions of the model.

    Returns:
        The metadata.
    """
    model, dataset = online.model, online.model.dataset
    return m.ModelMetadata(
        name=online.name,
        versions=versions,
        artefact=online.artefact,
        trial=online.card.trial,
        inputs=[
            m.TensorInfo(name="records", datatype="BYTES", shape=[-1])
            if model.reads_text
            else m.TensorInfo(name="records", datatype="FP32", shape=[-1, *dataset.shape])
        ],
        outputs=[
            m.TensorInfo(name="probabilities", datatype="FP32", shape=[-1, dataset.classes]),
            m.TensorInfo(name="class_index", datatype="INT64", shape=[-1]),
        ],
        class_names=list(dataset.class_names),
        feature_names=list(dataset.feature_names),
        units=dataset.units,
        preprocessing=dataset.preprocessing,
        low=[] if model.reads_text else np.broadcast_to(dataset.low, dataset.shape).tolist(),
        high=[] if model.reads_text else np.broadcast_to(dataset.high, dataset.shape).tolist(),
        epsilons=list(dataset.epsilons),
        default_explanation=model.default.method.name,
        explanations=["integrated_gradients"] + ([] if model.unexplained else ["shap"]),
        certificates=not model.unbounded,
        threshold=model.threshold,
    )


def records_of_tensor(online: Online, tensor: m.InputTensor) -> Records:
    """Brings a tensor of JSON numbers into the form that the model takes.

    Args:
        online: the version that answers.
        tensor: of the request; flat or nested.

    Returns:
        The records.

    Raises:
        RefusedError: its shape is not that of records, or its data are not of its shape.
    """
    model = online.model
    if model.reads_text:
        return model.read(tensor.data)
    return model.take(tensor_of(tensor.data, tensor.shape, model.dataset.shape, most=MOST_RECORDS))


def outputs_of(online: Online, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the output tensors.

    Args:
        online: the version that answered.
        logits: (n, classes).

    Returns:
        Probabilities, (n, classes) float32, and classes, (n,) int64, by their names.
    """
    model = online.model
    return {"probabilities": model.probabilities(logits), "class_index": model.decisions(logits).astype(np.int64)}


def _tensor(array: np.ndarray) -> dict[str, Any]:
    datatype = "FP32" if array.dtype == np.float32 else "INT64"
    return {"datatype": datatype, "shape": list(array.shape), "data": array.ravel()}
