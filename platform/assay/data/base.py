"""What a data set is, and what a source of one promises."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from assay.errors import DataError
from assay.registry import Method
from assay.threats import Bounds


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Records with labels and all that a fair evaluation must know about them.

    Raises:
        DataError: the arrays disagree, hold NaN or infinity, or cannot be classified.
    """

    name: str
    x: np.ndarray
    """(n, ...) float32, in ``units``."""
    y: np.ndarray
    """(n,) int64 in 0 … classes - 1; of two classes, 1 is the one to detect."""
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    low: np.ndarray
    """Least valid value of each input; broadcasts to one record."""
    high: np.ndarray
    """Greatest valid value of each input; broadcasts to one record."""
    units: str
    """What 1.0 of an input means: the unit of every ε on these data."""
    epsilons: tuple[float, ...]
    """Radii, in ``units``, at which robustness is worth asking for (L∞)."""
    groups: np.ndarray | None = None
    """(n,) the patient or centre of each record; a group never straddles a split."""
    licence: str = "unknown"
    citation: str = ""
    preprocessing: str = "none"
    """What was done to the records, and from which figures."""
    unpaid_preprocessing: bool = False
    """True if a figure used in preprocessing was learned from these records and no ε was charged for it."""
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.x) if self.x.ndim else 0
        if self.x.ndim < 2 or n == 0:
            raise DataError(
                f"{self.name}: x has shape {self.x.shape}; it must be (records, ...) with at least one record"
            )
        if self.y.shape != (n,):
            raise DataError(f"{self.name}: x holds {n} records but y has shape {self.y.shape}; give one label a record")
        if self.groups is not None and self.groups.shape != (n,):
            raise DataError(f"{self.name}: groups has shape {self.groups.shape}; give one a record, ({n},)")
        bad = ~np.isfinite(self.x).reshape(n, -1).all(1)
        if bad.any():
            first = int(bad.argmax())
            raise DataError(
                f"{self.name}: {int(bad.sum())} of {n} records hold NaN or infinity, the first is record {first}; "
                "impute or drop them before the evaluation"
            )
        inputs = int(np.prod(self.x.shape[1:]))
        if self.feature_names and len(self.feature_names) != inputs:
            raise DataError(
                f"{self.name}: {len(self.feature_names)} feature names for {inputs} inputs; give one an input"
            )
        present = np.unique(self.y)
        if present.min() < 0 or present.max() >= len(self.class_names):
            raise DataError(
                f"{self.name}: labels run from {present.min()} to {present.max()}, "
                f"but there are {len(self.class_names)} classes: use 0 to {len(self.class_names) - 1}"
            )
        if len(present) < 2:
            raise DataError(
                f"{self.name}: every record has the label {present[0]}; classification needs at least two classes"
            )
        if not (self.low < self.high).all():
            raise DataError(f"{self.name}: every lower bound must lie below its upper bound; give --low below --high")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record."""
        return self.x.shape[1:]

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def bounds(self) -> Bounds:
        return Bounds(low=torch.from_numpy(self.low), high=torch.from_numpy(self.high))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content and of what is said of it: the same from any path."""
        sha = hashlib.sha256()
        said = (self.class_names, self.feature_names, self.units, self.epsilons, self.unpaid_preprocessing)
        sha.update(repr((*said, self.preprocessing, self.warnings)).encode())
        arrays: Sequence[np.ndarray] = [self.x, self.y, self.low, self.high]
        for array in [*arrays, *([] if self.groups is None else [self.groups])]:
            sha.update(f"{array.dtype}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()


class Source(Method):
    """Where a data set comes from. Register with ``@register("dataset")`` and write ``load``."""

    records: ClassVar[int | None] = None
    """Number of records where it is known without loading, so that a dry run can calibrate noise."""

    def load(self) -> Dataset:
        """Read the data.

        Raises:
            DataError: they are absent or unusable; the message says what to do.
        """
        raise NotImplementedError
