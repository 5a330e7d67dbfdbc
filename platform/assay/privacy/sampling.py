"""Poisson sampling of records, or of patients with a bounded number of their records."""

import numpy as np

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.unit import protected_unit
from assay.recipes import Recipe


class RecordSampling:
    """Poisson sampling of records: each is drawn independently with the same probability.

    Args:
        records: number of records.
    """

    def __init__(self, records: int) -> None:
        self.units = records
        """Number of records; each is a protected unit."""

    def draw(self, seed: int, step: int, rate: float) -> np.ndarray:
        """Returns the records of a step.

        Args:
            seed: of the training.
            step: number of the step, from 0.
            rate: probability with which each record is drawn.

        Returns:
            Positions of the records, in order; possibly none.
        """
        return np.flatnonzero(seeds.stream(seed, "sample", step).random(self.units) < rate)


class PatientSampling:
    """Poisson sampling of patients, with a bounded number of records of each drawn patient.

    Which records of a patient are drawn depends only on chance and on the number of the patient's records. So a patient
    changes the clipped sum by at most the clipping norm, whatever the records are.

    Args:
        owners: (records,) number of each record's patient, from 0; see ``numbered``.
        most: greatest number of records of a patient in one step.
    """

    def __init__(self, owners: np.ndarray, *, most: int) -> None:
        self._most = most
        self._by_patient = np.argsort(owners, kind="stable")
        self._counts = np.bincount(owners)
        self._starts = np.cumsum(self._counts) - self._counts
        self.units = len(self._counts)
        """Number of patients; each is a protected unit."""

    def draw(self, seed: int, step: int, rate: float) -> np.ndarray:
        """Returns the records of a step.

        Args:
            seed: of the training.
            step: number of the step, from 0.
            rate: probability with which each patient is drawn.

        Returns:
            Positions of the records, patient by patient; possibly none.
        """
        drawn = np.flatnonzero(seeds.stream(seed, "sample", step).random(self.units) < rate)
        counts = self._counts[drawn]
        owner = np.repeat(np.arange(len(drawn)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._by_patient[np.repeat(self._starts[drawn], counts) + place]
        if not (counts > self._most).any():
            return rows
        keys = seeds.stream(seed, "records of a patient", step).random(len(rows))
        # Sorted by patient, then randomly: the first ``most`` records of each are kept, in their original order.
        order = np.lexsort((keys, owner))
        return rows[np.sort(order[place < self._most])]


def numbered(patients: np.ndarray) -> np.ndarray:
    """Returns each record's patient as a number from 0, in the order in which patients first appear.

    Args:
        patients: (records,) IDs.

    Returns:
        (records,) int64 numbers.
    """
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def owners_of(recipe: Recipe, patients: np.ndarray | None, *, records: int) -> np.ndarray | None:
    """Returns the number of each record's patient, from 0, where a recipe protects patients; None where it does not.

    Args:
        recipe: sets ``privacy`` and ``training.records_at_once``.
        patients: (records,) IDs; None where the data have none.
        records: number of records after the recipe's treatments.

    Returns:
        (records,) numbers, or None.

    Raises:
        IncompatibleRecipeError: a piece of a batch is too small for one patient, or the recipe drops records.
    """
    if recipe.privacy is None or protected_unit(recipe.privacy, patients) == "record":
        return None
    assert patients is not None
    if len(patients) != records:
        raise IncompatibleRecipeError(
            f"privacy protects patients, and treatments in data left {records} of {len(patients)} records without "
            "saying whose; treat the records before, or set privacy.unit to record"
        )
    owners = numbered(patients)
    most = min(recipe.privacy.records_per_patient, int(np.bincount(owners).max()))
    at_once = recipe.training.records_at_once
    if at_once is not None and at_once < most:
        raise IncompatibleRecipeError(
            f"training.records_at_once is {at_once}, and up to {most} records of a patient enter a step, which are "
            f"clipped together: set it to {most} or more, or privacy.records_per_patient to {at_once} or less",
            setting="training.records_at_once",
            given=at_once,
            allowed=most,
        )
    return owners
