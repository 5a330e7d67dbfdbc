"""Train, validation, calibration and test splits: stratified by class, and with every patient on one side only."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from assay import seeds
from assay.data.base import PARTS, Dataset, Lazy
from assay.data.site_folds import rows_of_site
from assay.errors import DataError, SpecError
from assay.registry import Settings


class Splitting(Settings):
    """Settings of the splits."""

    folds: int = Field(default=5, ge=1)
    """Number of folds; 1 trains nothing and tests a given model on every record."""
    by: Literal["record", "site"] = "record"
    """What a fold is: records, or patients, drawn at random; or all records of one site, such as a hospital that the
    model has not seen. Then there are as many folds as sites, in the order of their names; repeats vary the seed."""
    repeats: int = Field(default=1, ge=1)
    """Number of repeats of the whole cross-validation, each with other folds and seeds."""
    validation: float = Field(default=0.15, gt=0, lt=0.5)
    """Fraction of the records outside the test fold on which operating points are chosen."""
    calibration: float = Field(default=0.0, ge=0, lt=0.5)
    """Fraction of the records outside the test fold that is kept for calibration."""
    official: Literal["keep", "ignore"] = "keep"
    """``keep`` uses the data set's own split where there is one, and repeats vary the seed; ``ignore`` makes folds."""
    tested: Literal["test", "validation"] = "test"
    """The records that evaluations use. A search for settings uses ``validation`` and leaves ``test`` unseen."""

    @model_validator(mode="after")
    def _has_one_kind_of_fold(self) -> "Splitting":
        if self.by == "site" and self.official == "keep":
            raise SpecError(
                "split.by is site, and split.official keeps the split of the data set, which is another; "
                "set split.official to ignore",
                setting="split.official",
                given="keep",
                allowed="ignore",
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions of the records of each part; the parts are disjoint."""

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray


def keeps_official(dataset: Dataset, settings: Splitting) -> bool:
    """Returns whether the data set's own split is used instead of folds.

    Args:
        dataset: the data.
        settings: of the splits.

    Returns:
        True if there is an official split and it is kept.
    """
    return dataset.official is not None and settings.official == "keep"


def refuse_beyond_official(option: str, number: int, dataset: Dataset, settings: Splitting) -> None:
    """Raises if the data have no such fold, or not so many folds.

    Args:
        option: the option that asks for it, named in the error.
        number: of the fold, or of folds; from 1.
        dataset: the data.
        settings: of the splits.

    Raises:
        SpecError: the official split is used, which is one fold.
    """
    if number > 1 and keeps_official(dataset, settings):
        message = f"{option} {number}: {dataset.name} keeps its official split, which is one fold"
        raise SpecError(message, setting=option, given=number, allowed=1)


def split(dataset: Dataset, settings: Splitting, *, fold: int, repeat: int, seed: int) -> Split:
    """Returns one fold of one repeat, or the official split; the same for every recipe, so that results can be paired.

    If an official split has no validation records, they are drawn from its training records.

    Args:
        dataset: the data.
        settings: of the splits.
        fold: number of the fold, from 0; ignored for an official split.
        repeat: number of the repeat, from 0.
        seed: of the study.

    Returns:
        Positions of the records of each part.

    Raises:
        DataError: too few records of a class, or too few groups, for that many folds; or folds are to be sites, and a
            record has none, a patient has several, or their number is another.
    """
    everyone = np.arange(len(dataset))
    held_out: dict[str, np.ndarray] = {}
    if keeps_official(dataset, settings):
        named = {part: np.flatnonzero(dataset.official == part) for part in PARTS}
        test, rest = named["test"], named["train"]
        if len(named["validation"]):
            held_out["validation"] = named["validation"]
    elif settings.folds == 1:
        return Split(train=everyone[:0], validation=everyone[:0], calibration=everyone[:0], test=everyone)
    elif settings.by == "site":
        test = rows_of_site(dataset, settings.folds, fold)
        rest = np.setdiff1d(everyone, test)
    else:
        _check(dataset, settings.folds)
        parts = list(_parts(dataset, everyone, settings.folds, seeds.torch_seed(seed, "folds", repeat)))
        test = parts[fold]
        rest = np.setdiff1d(everyone, test)
    outside = len(rest)
    for purpose, share in (("validation", settings.validation), ("calibration", settings.calibration)):
        if purpose not in held_out:
            held_out[purpose] = _take(dataset, rest, share * outside, seeds.torch_seed(seed, purpose, repeat, fold))
            rest = np.setdiff1d(rest, held_out[purpose])
    if settings.tested == "validation":
        return Split(
            train=rest, validation=everyone[:0], calibration=held_out["calibration"], test=held_out["validation"]
        )
    return Split(train=rest, test=test, **held_out)


def stratified(y: np.ndarray, rows: np.ndarray, most: int | None, *, seed: int) -> np.ndarray:
    """Returns a stratified sample of rows: at most so many, each class with its share, in increasing order.

    Args:
        y: labels of the whole data set.
        rows: positions to choose from.
        most: greatest number of rows; None for no limit.
        seed: of the draw.

    Returns:
        The chosen rows; ``rows`` itself where the limit is not reached.
    """
    if most is None or most >= len(rows):
        return rows
    generator = seeds.stream(seed, "stratified", most)
    order = generator.permutation(len(rows))
    # Members of each class are spread evenly over the ranking, so any prefix has each class with its share.
    rank = np.empty(len(rows))
    for label in np.unique(y[rows]):
        members = order[y[rows][order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(rows[np.argsort(rank, kind="stable")[:most]])


class LazyRows:
    """Some rows of ``Lazy`` records.

    Args:
        x: the whole records.
        rows: (n,) positions of the rows.
    """

    def __init__(self, x: Lazy, rows: np.ndarray) -> None:
        self.whole, self.rows = x, rows
        self.shape, self.dtype, self.ndim = (len(rows), *x.shape[1:]), x.dtype, x.ndim

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.whole[self.rows[rows]]

    def fingerprint(self) -> str:
        return f"{self.whole.fingerprint()} {hashlib.sha256(self.rows.tobytes()).hexdigest()}"


def sampled(dataset: Dataset, most: int, *, seed: int) -> Dataset:
    """Returns a stratified sample of a data set: each class of each part of its split with its share.

    The sample's warnings say how large it is.

    Args:
        dataset: the data.
        most: number of records, approximately.
        seed: of the draw.

    Returns:
        The sample; the data set itself if it has no more records.
    """
    if most >= len(dataset):
        return dataset
    everyone = np.arange(len(dataset))
    official = np.full(len(dataset), "") if dataset.official is None else dataset.official
    parts = [everyone[official == part] for part in np.unique(official)]
    chosen = [
        stratified(dataset.y, part, max(dataset.classes, round(most * len(part) / len(dataset))), seed=seed)
        for part in parts
    ]
    rows = np.sort(np.concatenate(chosen))
    warning = f"a stratified sample of {len(rows)} of {len(dataset)} records"
    return replace(
        dataset,
        x=dataset.x[rows] if isinstance(dataset.x, np.ndarray) else LazyRows(dataset.x, rows),
        y=dataset.y[rows],
        groups=None if dataset.groups is None else dataset.groups[rows],
        site=None if dataset.site is None else dataset.site[rows],
        official=None if dataset.official is None else official[rows],
        written=None if dataset.written is None else dataset.written[rows],
        subgroups={name: members[rows] for name, members in dataset.subgroups.items()},
        part_of=replace(dataset.origin, places=dataset.origin.places[rows]),
        warnings=(*dataset.warnings, warning),
        stated=(*dataset.stated, warning),
    )


def _parts(dataset: Dataset, rows: np.ndarray, parts: int, seed: int) -> Iterator[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if dataset.groups is None else StratifiedGroupKFold
    folds = kind(n_splits=parts, shuffle=True, random_state=seed % 2**32)
    groups = None if dataset.groups is None else dataset.groups[rows]
    for _, part in folds.split(rows, dataset.y[rows], groups):
        yield rows[part]


def _take(dataset: Dataset, rows: np.ndarray, wanted: float, seed: int) -> np.ndarray:
    """Returns ``wanted`` of the rows, stratified; of grouped data about as many.

    Grouped data are taken as one part of a finer split.
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    if wanted < 1:
        return rows[:0]
    parts = max(2, round(len(rows) / wanted))
    _, smallest = np.unique(dataset.y[rows], return_counts=True)
    if dataset.groups is None and wanted >= dataset.classes and smallest.min() >= 2:
        exact = StratifiedShuffleSplit(n_splits=1, test_size=round(wanted), random_state=seed % 2**32)
        return rows[np.sort(next(exact.split(rows, dataset.y[rows]))[1])]
    scarce, left = "records", int(smallest.min())
    if dataset.groups is not None and (groups := len(np.unique(dataset.groups[rows]))) < left:
        scarce, left = "groups", groups
    if left < 2:
        shortage = "a class has 1 record" if scarce == "records" else "1 group is"
        raise DataError(
            f"{dataset.name}: {shortage} left for training and validation; give more {scarce} or fewer folds"
        )
    return next(_parts(dataset, rows, min(parts, left), seed))


def _check(dataset: Dataset, folds: int) -> None:
    classes, counts = np.unique(dataset.y, return_counts=True)
    if counts.min() < folds:
        rare = dataset.class_names[classes[counts.argmin()]]
        raise DataError(
            f"{dataset.name}: {folds} folds need at least {folds} records of every class, but {rare!r} has "
            f"{counts.min()}; give more records or --set split.folds={max(2, int(counts.min()))}"
        )
    if dataset.groups is not None and len(np.unique(dataset.groups)) < folds:
        raise DataError(
            f"{dataset.name}: {folds} folds need at least {folds} groups, there are {len(np.unique(dataset.groups))}"
        )
