"""The unit of membership attacks: records, or patients by all of their records."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.evaluations.pool import Pool
from assay.evaluations.subject import Subject
from assay.privacy.unit import protected_unit


@dataclass(frozen=True, kw_only=True)
class MembershipUnits:
    """The units between which membership attacks distinguish: the patients of a pool, or its single records.

    They are the units that privacy protects, or would: patients where records have them, unless a private recipe asks
    for records. So figures of private and non-private recipes on the same data are comparable.
    """

    pool: Pool
    """For patients it contains the first record of each."""
    unit: Literal["patient", "record"]
    counts: np.ndarray
    """(units,) records of each."""
    places: np.ndarray
    """(n,) the unit of each record of the whole pool."""

    @classmethod
    def of(cls, subject: Subject, pool: Pool) -> "MembershipUnits":
        """Returns the units of a pool.

        Args:
            subject: with its recipe and data.
            pool: of records.

        Returns:
            The units.
        """
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
        """Sums the scores of each unit's records: the logarithm of a product of likelihood ratios.

        Args:
            scores: (n,) of the records.

        Returns:
            (units,) sums.
        """
        return np.bincount(self.places, weights=scores, minlength=len(self.counts))
