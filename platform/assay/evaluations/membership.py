"""Does the model tell who was in its training data?"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from assay import seeds, statistics
from assay.evaluations.base import Evaluation, Subject, estimated, share
from assay.registry import register
from assay.results import Finding, not_applicable

Rate = Annotated[float, Field(gt=0, lt=1)]
_OTHER_PATIENTS = "members and non-members are different patients: what tells them apart may be the patient"


@register("evaluation")
class Membership(Evaluation):
    """The loss-threshold attack (Yeom et al. 2018, arXiv:1709.01604): members have smaller losses.

    Members are the training records, non-members others that were drawn from the same pool: the test fold. The test
    records of an official split are another pool (other patients, another hospital), so there they are the records that
    were drawn from the training part for validation, unless early stopping has seen them, and calibration.
    Reported as in Carlini et al. 2022 (arXiv:2112.03570): the true-positive rate at a low false-positive rate.
    """

    name: Literal["membership"] = "membership"
    false_positive_rates: tuple[Rate, ...] = Field(default=(0.1, 0.01))
    draws: int = Field(default=200, ge=50)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        names = ["membership_auc", *("membership_tpr" for _ in self.false_positive_rates)]
        if subject.log is None:
            return [not_applicable(name, "the training records of this model are not known") for name in names]
        members = _scores(subject, subject.split.train)
        outside, notes = _non_members(subject)
        others = _scores(subject, outside)
        about = {"attack": "loss threshold", "members": len(members), "non_members": len(others)}
        is_member = np.arange(len(members) + len(others)) < len(members)
        score = np.concatenate([members, others])
        groups = subject.groups(np.concatenate([subject.split.train, outside]))
        auc = statistics.bootstrap(
            lambda i: statistics.auroc(is_member[i], score[i]),
            len(score),
            generator=seeds.stream(subject.seed, "bootstrap", self.name),
            draws=self.draws,
            groups=groups,
        )
        found = [
            estimated(
                "membership_auc",
                auc,
                n=len(score),
                conditions=about,
                warnings=notes,
            )
        ]
        for rate in self.false_positive_rates:
            needed = round(10 / rate)
            if len(others) < needed:
                why = f"TPR at {rate:.1%} FPR needs at least {needed} non-members, there are {len(others)}"
                found.append(not_applicable("membership_tpr", why, false_positive_rate=rate, **about))
                continue
            hits = members > true_threshold(others, rate)
            own = subject.groups(subject.split.train)
            row = share("membership_tpr", hits, own, seed=subject.seed, false_positive_rate=rate, **about)
            found.append(row.warn(*notes))
        return found


def _non_members(subject: Subject) -> tuple[np.ndarray, tuple[str, ...]]:
    """Records that were not trained on, of the pool of those that were, and what speaks against them."""
    rows, official = subject.split, subject.dataset.official
    # No patient straddles a split, so of grouped records no non-member shares a patient with a member.
    notes = () if subject.dataset.groups is None else (_OTHER_PATIENTS,)
    if official is None or not bool((official[rows.test] == "test").all()):
        return rows.test, notes
    held = np.concatenate([subject.untouched, rows.calibration])
    same = held[official[held] == "train"]
    if len(same):
        return same, notes
    return rows.test, (
        *notes,
        "the test records of an official split are another pool than its training records: what tells them apart may "
        "be no membership; keep some training records aside with split.calibration",
    )


def true_threshold(non_members: np.ndarray, rate: float) -> float:
    """The least score above which at most this share of the non-members lies."""
    allowed = int(np.floor(rate * len(non_members)))
    return float(np.sort(non_members)[::-1][allowed])


def _scores(subject: Subject, rows: np.ndarray) -> np.ndarray:
    """Logit of the true class minus the log-sum-exp of the others, (n,): minus the loss, on a scale without a ceiling.

    The loss itself rounds to 0 on confident records, and ties hide whom it could tell apart.
    """
    logits, y = subject.logits(rows), subject.dataset.y[rows]
    true = logits[np.arange(len(y)), y]
    logits[np.arange(len(y)), y] = -np.inf
    return true - np.logaddexp.reduce(logits, axis=1)
