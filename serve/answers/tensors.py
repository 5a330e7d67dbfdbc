"""Tensors of the Open Inference Protocol, the same for REST and gRPC: of the records, and of the outputs."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from serve.inputs.binary import array_from, texts_from
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.model import ServedModel
from serve.refusals import RefusedError
from serve.repository.online import Online

OUTPUTS: tuple[Literal["probabilities"], Literal["class_index"]] = ("probabilities", "class_index")
_MOST_WARNED = 8
"""Records whose warnings an answer names; the others are counted."""
_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


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
    lines = [f"record {number}: {'; '.join(warnings)}" for number, warnings in enumerate(records.warnings) if warnings]
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
