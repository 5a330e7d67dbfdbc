"""Members and non-members, between which membership attacks must distinguish."""

from dataclasses import dataclass

import numpy as np

from assay.evaluations.subject import Subject

OTHER_PATIENTS = "members and non-members are different patients: what tells them apart may be the patient"
_OTHER_POOL = (
    "the test records of an official split are another pool than its training records: what tells them apart may be no "
    "membership; keep some training records aside with split.calibration"
)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Positions of members and non-members, drawn from the same records.

    Members are the training records, non-members others that were drawn from the same pool: the test fold. The test
    records of an official split are another pool (other patients, another hospital). There non-members are the
    validation records, unless early stopping has used them, and the calibration records, which come from the training
    part.
    """

    members: np.ndarray
    others: np.ndarray
    other_pool: bool
    """Whether no record of an official training part was held out, so that test records had to be used."""

    @classmethod
    def of(cls, subject: Subject) -> "Pool":
        """Returns the pool of a model.

        Args:
            subject: the trained model with its data.

        Returns:
            The pool.
        """
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

    def of_patients(self, groups: np.ndarray, score: np.ndarray) -> tuple["Pool", np.ndarray]:
        """Returns the pool with one row for each patient, its first record, and each patient's mean score.

        A patient with records on both sides is a member.

        Args:
            groups: (n,) the patient of each of ``rows``.
            score: (n,) of each of ``rows``.

        Returns:
            The pool of m patients, and their (m,) scores.
        """
        patients, first, place = np.unique(groups, return_index=True, return_inverse=True)
        mean = np.bincount(place, score) / np.bincount(place)
        # Members stand first, so a patient's first row tells on which side it is.
        order = np.argsort(first)
        members = order[first[order] < len(self.members)]
        others = order[first[order] >= len(self.members)]
        rows = self.rows[first]
        pool = Pool(members=rows[members], others=rows[others], other_pool=self.other_pool)
        assert len(pool.rows) == len(patients)
        return pool, mean[np.concatenate([members, others])]

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the non-members."""
        return (_OTHER_POOL,) if self.other_pool else ()


def confidence(subject: Subject, rows: np.ndarray) -> np.ndarray:
    """Returns how well the model's answers fit: minus the loss of each record, on a scale without a limit.

    The loss itself rounds to 0 on confident records, and ties would hide differences. For classes it is
    ``log(p / (1 − p))`` of the true one's probability p, nearly normal over models that are trained anew (Carlini et
    al. 2022).

    Args:
        subject: the trained model with its data.
        rows: (n,) positions of the records.

    Returns:
        (n,) confidence.
    """
    return subject.task.fits(subject.logits(rows), subject.dataset.y[rows])
