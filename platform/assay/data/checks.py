"""Checks of a new data set: shapes, labels, bounds, groups and the official split."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.data.identifiers import refuse_missing
from assay.data.spellings import refuse_alike
from assay.errors import DataError

if TYPE_CHECKING:
    from assay.data.base import Dataset


def check_dataset(dataset: "Dataset", *, parts: Sequence[str]) -> None:
    """Raises if the arrays of a data set disagree, hold NaN or infinity, or cannot be classified.

    Args:
        dataset: the new data set.
        parts: names of the parts of an official split.

    Raises:
        DataError: names the problem and the remedy.
    """
    n = len(dataset.x) if dataset.x.ndim else 0
    if dataset.x.ndim < 2 or n == 0 or (dataset.modality == "text" and dataset.x.shape[1] == 0):
        raise DataError(
            f"{dataset.name}: x has shape {dataset.x.shape}; it must be (records, ...) with at least one record"
        )
    if dataset.y.shape != (n,):
        raise DataError(
            f"{dataset.name}: x holds {n} records but y has shape {dataset.y.shape}; give one label a record"
        )
    _check_groups(dataset, n)
    refuse_alike(dataset.feature_names, where=dataset.name, setting="feature_names", what="features")
    if len(set(dataset.class_names)) < len(dataset.class_names):
        # Names that differ only in case are allowed: a user may have declared them as two classes.
        refuse_alike(dataset.class_names, where=dataset.name, setting="class_names", what="classes")
    if isinstance(dataset.x, np.ndarray):
        # The preparation will fill in missing values.
        _check_finite(dataset.name, dataset.x, gaps=dataset.preparation is not None)
    if dataset.official is not None:
        _check_official(dataset, dataset.official, parts)
    inputs = int(np.prod(dataset.x.shape[1:]))
    if dataset.feature_names and len(dataset.feature_names) != inputs:
        raise DataError(
            f"{dataset.name}: {len(dataset.feature_names)} feature names for {inputs} inputs; give one an input"
        )
    present = np.unique(dataset.y)
    if present.min() < 0 or present.max() >= len(dataset.class_names):
        raise DataError(
            f"{dataset.name}: labels run from {present.min()} to {present.max()}, "
            f"but there are {len(dataset.class_names)} classes: use 0 to {len(dataset.class_names) - 1}"
        )
    if len(present) < 2:
        raise DataError(
            f"{dataset.name}: every record has the label {present[0]}; classification needs at least two classes"
        )
    if not (dataset.low < dataset.high).all():
        raise DataError(f"{dataset.name}: every lower bound must lie below its upper bound; give --low below --high")
    if isinstance(dataset.x, np.ndarray):
        _check_bounds(dataset, dataset.x)


def _check_groups(dataset: "Dataset", n: int) -> None:
    if dataset.groups is not None and dataset.groups.shape != (n,):
        raise DataError(f"{dataset.name}: groups has shape {dataset.groups.shape}; give one a record, ({n},)")
    if dataset.groups is not None:
        refuse_missing(dataset.groups, where=dataset.name)
    if dataset.site is not None and dataset.site.shape != (n,):
        raise DataError(f"{dataset.name}: site has shape {dataset.site.shape}; give one a record, ({n},)")
    for name, members in dataset.subgroups.items():
        if members.shape != (n,):
            raise DataError(f"{dataset.name}: subgroup {name!r} has shape {members.shape}; give one a record, ({n},)")


def _check_bounds(dataset: "Dataset", x: np.ndarray) -> None:
    # A tolerance for rounding: the sine of pi is -8.7e-8 in float32.
    slack = 1e-6 * (dataset.high - dataset.low)
    low, high = (np.broadcast_to(bound, x.shape[1:]) for bound in (dataset.low - slack, dataset.high + slack))

    def beyond(some: np.ndarray) -> np.ndarray:
        # Compared in the type of the bounds: a value equal to a bound is rounded as the bound was.
        some = some.astype(dataset.low.dtype, copy=False)
        # NaN, a missing value that a preparation will fill in, is neither below nor above.
        return (some < low) | (some > high)

    outside = _each(x, lambda some: beyond(some).reshape(len(some), -1).any(axis=1))
    if not outside.any():
        return
    record = x[int(outside.argmax())]
    place = int(beyond(record).argmax())
    value = record.flat[place]
    bounds = tuple(float(np.broadcast_to(end, x.shape[1:]).flat[place]) for end in (dataset.low, dataset.high))
    where = dataset.feature_names[place] if dataset.feature_names else f"input {place}"
    raise DataError(
        f"{dataset.name}: {int(outside.sum())} of {len(x)} records lie outside the bounds of a valid input; the first "
        f"is record {int(outside.argmax())}, whose {where} is {value:g}, outside {bounds[0]:g} to {bounds[1]:g}: "
        "correct or drop these records, or widen the bounds",
        setting="bounds",
        given=float(value),
        allowed=bounds,
    )


def _check_official(dataset: "Dataset", official: np.ndarray, parts: Sequence[str]) -> None:
    strange = sorted(set(np.unique(official).tolist()) - set(parts))
    if official.shape != (len(dataset.x),) or strange:
        raise DataError(
            f"{dataset.name}: an official split names one of {', '.join(parts)} for each of {len(dataset.x)} records; "
            f"it has shape {official.shape} and names {strange}"
        )
    for part in ("train", "test"):
        if part not in official:
            raise DataError(f"{dataset.name}: the official split has no {part} records")
    if dataset.groups is None:
        return
    of_group: dict[Any, set[str]] = {}
    for group, part in set(zip(dataset.groups.tolist(), official.tolist(), strict=True)):
        of_group.setdefault(group, set()).add(part)
    torn = sorted(str(group) for group, own_parts in of_group.items() if len(own_parts) > 1)
    if torn:
        raise DataError(
            f"{dataset.name}: group {torn[0]!r} straddles the official split ({len(torn)} such groups): a patient "
            "must be in one part only; move or drop its records, or give no split: folds keep groups whole"
        )


def _each(x: np.ndarray, judge: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Returns (n,) bool: the results of a check, computed in pieces to save memory."""
    return np.concatenate([judge(x[start : start + 4096]) for start in range(0, len(x), 4096)])


def _check_finite(name: str, x: np.ndarray, *, gaps: bool) -> None:
    if x.dtype.kind in "iu" or (gaps and not np.isinf(x).any()):
        return
    finite = _each(x, lambda some: np.isfinite(some).reshape(len(some), -1).all(1))
    if not finite.all():
        raise DataError(
            f"{name}: {int((~finite).sum())} of {len(x)} records hold NaN or infinity, the first is record "
            f"{int(finite.argmin())}; impute or drop them before the evaluation"
        )
