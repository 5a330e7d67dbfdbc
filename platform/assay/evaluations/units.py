"""Who a membership attack recognises: records, or patients by all of their records."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.evaluations.base import Subject
from assay.evaluations.pool import Pool
from assay.privacy.unit import protected_unit


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Those whom membership attacks tell apart: the patients of a pool, or its records one by one.

    Who is told apart is whom privacy protects, or would: patients where records have them, unless a private recipe asks
    for records. So figures of private and of plain recipes on the same data compare.
    """

    pool: Pool
    """Of patients it holds one record each, the first."""
    unit: Literal["patient", "record"]
    counts: np.ndarray
    """(units,) records of each."""
    places: np.ndarray
    """(n,) which unit each record of the whole pool belongs to."""

    @classmethod
    def of(cls, subject: Subject, pool: Pool) -> "Joined":
        groups = subject.patients(pool.rows)
        privacy = None if subject.recipe is None else subject.recipe.privacy
        if groups is None or protected_unit(privacy, groups) == "record":
            n = len(pool.rows)
            return cls(pool=pool, unit="record", counts=np.ones(n), places=np.arange(n))
        # No patient straddles a split; numbered by the first record, members come before the others.
        _, first, patient = np.unique(groups, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        places, first = rank[patient], np.sort(first)
        members = first < len(pool.members)
        rows = pool.rows[first]
        joined = Pool(members=rows[members], others=rows[~members], other_pool=pool.other_pool)
        return cls(pool=joined, unit="patient", counts=np.bincount(places).astype(float), places=places)

    def total(self, scores: np.ndarray) -> np.ndarray:
        """(units,) sums of the scores (n,) of their records: the log of a product of likelihood ratios."""
        return np.bincount(self.places, weights=scores, minlength=len(self.counts))
