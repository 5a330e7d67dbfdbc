"""Who was trained on and who might have been: the two groups between which membership attacks must tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.evaluations.base import Subject
from assay.privacy.unit import protected_unit
from assay.seeds import Draw

OTHER_PATIENTS = "members and non-members are different patients: what tells them apart may be the patient"
_OTHER_POOL = (
    "the test records of an official split are another pool than its training records: what tells them apart may be no "
    "membership; keep some training records aside with split.calibration"
)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Positions of members and non-members, drawn from the same records.

    Members are the training records, non-members others that were drawn from the same pool: the test fold. The test
    records of an official split are another pool (other patients, another hospital), so there they are the records that
    were drawn from the training part for validation, unless early stopping has seen them, and calibration.
    """

    members: np.ndarray
    others: np.ndarray
    other_pool: bool
    """Whether nothing was kept aside of an official training part: then the test records had to serve."""

    @classmethod
    def of(cls, subject: Subject) -> "Pool":
        rows, official = subject.split, subject.dataset.official
        if official is None or not bool((official[rows.test] == "test").all()):
            return cls(members=rows.train, others=rows.test, other_pool=False)
        held = np.concatenate([subject.untouched, rows.calibration])
        same = held[official[held] == "train"]
        return cls(members=rows.train, others=same if len(same) else rows.test, other_pool=not len(same))

    @property
    def rows(self) -> np.ndarray:
        """Members first, then the others."""
        return np.concatenate([self.members, self.others])

    @property
    def is_member(self) -> np.ndarray:
        """Which of ``rows`` are members."""
        return np.arange(len(self.members) + len(self.others)) < len(self.members)

    @property
    def notes(self) -> tuple[str, ...]:
        """What speaks against the non-members."""
        return (_OTHER_POOL,) if self.other_pool else ()


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Those whom membership attacks tell apart: the patients of a pool, or its records one by one.

    Patients are who a private recipe protects, where records have patients and the recipe does not ask for records.
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
        groups, recipe = subject.groups(pool.rows), subject.recipe
        privacy = None if recipe is None else recipe.privacy
        if groups is None or privacy is None or protected_unit(privacy, subject.dataset.groups) == "record":
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


def asked(subject: Subject, rows: np.ndarray, *, queries: int) -> np.ndarray:
    """Mean confidence over a record as it is and as the recipe augments it, (n,); the same draws for every model."""
    found = [confidence(subject, rows)]
    for query in range(1, queries if subject.augmentations else 1):
        found.append(_confidence(subject.answers(_augmented(subject, rows, query)), subject.dataset.y[rows]))
    return np.asarray(np.mean(found, 0))


def _augmented(subject: Subject, rows: np.ndarray, query: int) -> Iterator[np.ndarray]:
    """The records, as one more augmentation leaves them, in the pieces that the model can take."""
    start = 0
    for piece in subject.pieces(rows):
        drawn: Tensor = torch.from_numpy(subject.dataset.x[piece])
        own = np.arange(start, start + len(piece))
        start += len(piece)
        x = drawn
        for number, augmentation in enumerate(subject.augmentations):
            generator = seeds.stream(subject.seed, "query", query, number)
            x = augmentation.augment(x, Draw(generator, total=len(rows), rows=own))
        yield (subject.dataset.bounds.confine(x, drawn) if x.is_floating_point() else x).numpy()


def confidence(subject: Subject, rows: np.ndarray) -> np.ndarray:
    """Logit of the true class minus the log-sum-exp of the others, (n,): ``log(p / (1 − p))`` of its probability p.

    That is minus the loss, on a scale without a ceiling: the loss itself rounds to 0 on confident records, and ties
    hide whom it could tell apart. Over models that are trained anew it is nearly normal (Carlini et al. 2022).
    """
    return _confidence(subject.logits(rows), subject.dataset.y[rows])


def _confidence(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """In float64 and without an exponential of a large number, whatever the logits."""
    true = logits[np.arange(len(y)), y]
    logits[np.arange(len(y)), y] = -np.inf
    with np.errstate(invalid="ignore"):
        # A model that answers NaN has no confidence, and whoever asks for it looks.
        return true - np.logaddexp.reduce(logits, axis=1)
