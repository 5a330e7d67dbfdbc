"""One entry for all that a caller may send: records of any kind become the input of the model."""

from typing import Any

import numpy as np
import torch

from assay.data.base import Dataset
from serve.inputs.numbers import array_of, refuse_count
from serve.inputs.ranges import AbstentionRule, Ranges
from serve.inputs.records import Records
from serve.inputs.tables import NamedColumns
from serve.inputs.texts import read_texts
from serve.refusals import RefusedError

MOST_RECORDS = 256
"""Greatest number of records in one call."""


class Reader:
    """Reads the records of one model. Make it once: it prepares conversions and ranges.

    Args:
        dataset: as the model takes it.
        train: positions of the training records; None for a private model (see ``Ranges``).
        rule: when an answer abstains.
    """

    def __init__(
        self, dataset: Dataset, *, train: np.ndarray | None = None, rule: AbstentionRule | None = None
    ) -> None:
        self.dataset = dataset
        self._text = dataset.modality == "text"
        self.ranges = None if self._text else Ranges(dataset, train=train, rule=rule)
        """Ranges of the inputs; None for texts."""
        named = dataset.modality == "tabular" and bool(dataset.feature_names)
        self.columns = NamedColumns(dataset) if named else None
        """Columns by which records may be named; None where records are no table, or its features have no names."""

    def read(self, given: Any, *, most: int = MOST_RECORDS) -> Records:
        """Reads records of parsed JSON.

        Args:
            given: a list of records: lists of inputs of the model, objects of values by the name of their column, or
                texts.
            most: greatest number of records.

        Returns:
            The records.

        Raises:
            RefusedError: they are none that the model takes. Repeats nothing of the request.
        """
        refuse_count(given, most=most)
        if self._text:
            return read_texts(given, self.dataset)
        if self.columns is not None and type(given[0]) is dict:
            x, warnings = self.columns.inputs(given)
            return self._judged(x, warnings)
        return self._judged(array_of(given, self.dataset.shape, most=most))

    def take(self, x: np.ndarray, *, most: int = MOST_RECORDS) -> Records:
        """Reads records of a binary tensor.

        Args:
            x: (n, ...) float32 or float64.
            most: greatest number of records.

        Returns:
            The records.

        Raises:
            RefusedError: they are none that the model takes.
        """
        if self._text or x.shape[1:] != self.dataset.shape or not 1 <= len(x) <= most:
            raise RefusedError(
                "this model reads texts: send them as JSON"
                if self._text
                else f"a tensor must hold 1 to {most} records of shape {list(self.dataset.shape)}",
                reason="shape",
            )
        return self._judged(x)

    def _judged(self, x: np.ndarray, warnings: list[list[str]] | None = None) -> Records:
        """Returns arrays as records, with warnings about values outside the ranges."""
        assert self.ranges is not None
        with np.errstate(over="ignore"):
            inputs = np.ascontiguousarray(x, np.float32)
        judged = self.ranges.judge(inputs)
        told: tuple[tuple[str, ...], ...] = judged.warnings
        if warnings is not None and any(warnings):
            ranges = told or ((),) * len(x)
            told = tuple((*own, *further) for own, further in zip(warnings, ranges, strict=True))
        return Records(x=torch.from_numpy(inputs), warnings=told, outside=judged.outside, abstain=judged.abstain)


def read_records(given: Any, dataset: Dataset, *, most: int = MOST_RECORDS) -> Records:
    """Reads records of a request, without a ``Reader`` that was made before; a server keeps one.

    Args:
        given: see ``Reader.read``.
        dataset: as the model takes it.
        most: greatest number of records.

    Returns:
        The records.

    Raises:
        RefusedError: they are none that the model takes.
    """
    return Reader(dataset).read(given, most=most)
