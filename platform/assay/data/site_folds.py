"""Folds that are sites: all records of one hospital are tested, and those of all others are for training."""

import numpy as np

from assay.data.base import Dataset
from assay.errors import DataError, SpecError


def rows_of_site(dataset: Dataset, folds: int, fold: int) -> np.ndarray:
    """Returns the positions of all records of one site.

    Args:
        dataset: the data.
        folds: number of folds, which must be that of the sites.
        fold: place of the site in the order of their names, from 0.

    Returns:
        Positions in increasing order.

    Raises:
        DataError: a record has no site, or a patient has several.
        SpecError: the number of folds is another.
    """
    if dataset.site is None:
        raise DataError(
            f"{dataset.name} names no site of a record, so no fold can be one; name the column of sites in the "
            "settings of the data set, or set split.by=record",
            setting="split.by",
            given="site",
            allowed="record",
        )
    unknown = int((dataset.site == "").sum())
    if unknown:
        raise DataError(
            f"{dataset.name}: {unknown} of {len(dataset)} records name no site, so they belong to no fold; complete "
            "the column of sites, or leave these records out",
            setting="split.by",
            given=unknown,
            allowed=0,
        )
    sites, of_row = np.unique(dataset.site, return_inverse=True)
    if len(sites) != folds:
        raise SpecError(
            f"split.folds is {folds}, but {dataset.name} has {len(sites)} sites, each of which is a fold: "
            f"set split.folds={len(sites)}",
            setting="split.folds",
            given=folds,
            allowed=len(sites),
        )
    chosen = of_row == fold
    if dataset.groups is not None:
        torn = np.intersect1d(dataset.groups[chosen], dataset.groups[~chosen])
        if len(torn):
            raise DataError(
                f"{dataset.name}: {len(torn)} patients of site {sites[fold]!r} have records at other sites too, so "
                "they would be on both sides of the split; correct the column of sites, or set split.by=record",
                setting="split.by",
                given=len(torn),
                allowed=0,
            )
    return np.flatnonzero(chosen)
