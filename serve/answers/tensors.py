"""Requests and answers of the Open Inference Protocol, the same for REST and gRPC: tensors, outputs, metadata."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

import assay
from serve import messages as m
from serve.inputs.binary import array_from, texts_from
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.model import NoFiniteAnswerError, ServedModel
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online

EXTENSIONS = ["binary_tensor_data", "model_repository"]
OUTPUTS: tuple[Literal["probabilities"], Literal["class_index"]] = ("probabilities", "class_index")
_MOST_WARNED = 8
"""Records whose warnings an answer names; the others are counted."""
_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


def server_metadata() -> m.ServerMetadata:
    """Returns name, version and extensions of the server."""
    return m.ServerMetadata(version=assay.__version__, extensions=EXTENSIONS)


def check_models(loaded: Loaded) -> None:
    """Answers a known record with every version of every model, and compares the answer with that at the start.

    If one is another one, no call of any model is answered until all are right again.

    Args:
        loaded: the models.

    Raises:
        NoFiniteAnswerError: one answers otherwise than when it was loaded.
    """
    try:
        for one in loaded.online():
            one.model.check_self()
    except NoFiniteAnswerError as error:
        loaded.unfit = str(error)
        raise
    loaded.unfit = ""


def require_ready(loaded: Loaded) -> None:
    """Raises an error unless there are models, and all answer their known records as ``check_models`` demands.

    Args:
        loaded: the models.

    Raises:
        NoFiniteAnswerError: there is none, or one answers otherwise than when it was loaded.
    """
    if not loaded.names:
        raise NoFiniteAnswerError("no model is loaded")
    check_models(loaded)


def index_of(loaded: Loaded, *, ready: bool = False) -> list[m.IndexEntry]:
    """Lists the versions of all models.

    Args:
        loaded: the models.
        ready: whether to leave out those that could not be loaded.

    Returns:
        One entry a version.
    """
    failing = {} if ready else loaded.failing
    found = []
    for name in sorted({*loaded.names, *failing}):
        versions = loaded.versions(name) if name in loaded.names else []
        found += [m.IndexEntry(name=name, version=version, state="READY") for version in versions]
        found += [
            m.IndexEntry(name=name, version=version, state="UNAVAILABLE", reason=why)
            for version, why in failing.get(name, {}).items()
        ]
    return found


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


def records_of_raw(model: ServedModel, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Records:
    """Brings a binary tensor into the form that the model takes.

    Args:
        model: that answers.
        datatype: of the tensor.
        shape: as it was sent.
        raw: its bytes.

    Returns:
        The records.

    Raises:
        RefusedError: they are none that the model takes.
    """
    refuse_datatype(model, datatype)
    if model.reads_text:
        return model.read([*texts_from(raw, shape, most=MOST_RECORDS)])
    return model.take(array_from(raw, datatype, shape, model.dataset.shape, most=MOST_RECORDS))


def refuse_datatype(model: ServedModel, datatype: str) -> None:
    """Refuses numbers for a model of texts, and texts for a model of numbers.

    Args:
        model: that answers.
        datatype: of a tensor.

    Raises:
        RefusedError: the model does not read it.
    """
    if model.reads_text and datatype != "BYTES":
        raise RefusedError("a tensor of numbers is no text: this model reads datatype BYTES", reason="datatype")
    if not model.reads_text and datatype == "BYTES":
        raise RefusedError("this model reads numbers: datatype must be FP32 or FP64", reason="datatype")


def parameters_of(records: Records) -> dict[str, str]:
    """Returns the parameters of an answer: the warnings about its records, where there are any.

    Args:
        records: that were answered.

    Returns:
        At most one parameter, ``warnings``, with a line for each of the first records that have some.
    """
    lines = [f"record {number}: {'; '.join(own)}" for number, own in enumerate(records.warnings) if own]
    if not lines:
        return {}
    more = [f"and {len(lines) - _MOST_WARNED} more records"] if len(lines) > _MOST_WARNED else []
    return {"warnings": "\n".join([*lines[:_MOST_WARNED], *more])}


async def outputs_of(online: Online, records: Records) -> dict[str, np.ndarray]:
    """Answers records.

    Args:
        online: the version that answers.
        records: of the call.

    Returns:
        Probabilities, (n, classes) float32, and classes, (n,) int64, by their names.
    """
    logits = await online.logits(records.x)
    probabilities = np.asarray(online.model.probabilities(logits), np.float32)
    return dict(zip(OUTPUTS, (probabilities, online.model.decisions(logits).astype(np.int64)), strict=True))


def datatype_of(output: np.ndarray) -> str:
    """Returns the datatype of an output, as the protocol names it.

    Args:
        output: float32 or int64.
    """
    return _DATATYPES[output.dtype]


def raw_from(output: np.ndarray) -> bytes:
    """Returns an output as a binary tensor: row-major, little-endian.

    Args:
        output: float32 or int64.
    """
    return output.astype(output.dtype.newbyteorder("<"), copy=False).tobytes()
