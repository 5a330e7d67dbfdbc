"""How many test records, or near copies of them, were among the training records?"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import binom

from assay.data.clusters import copied
from assay.data.copies import NEAR, Copies, copies_of
from assay.evaluations.base import Evaluation, Subject, share
from assay.metrics import Metric
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable

_NAME = "copied_records"
_MANY = 0.1
"""Share of copies from which on the accuracy is no figure of other records."""


@register("evaluation")
class CopiedRecords(Evaluation):
    """Share of the test records that are training records too, and accuracy on those that are none.

    It is asked beside every accuracy without being listed, except of private recipes: what it finds tells of training
    records, and no ε pays for that. There it must be listed, and its check concerns its own figure alone.
    """

    name: Literal["copies"] = "copies"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAME,
            title="Copied records",
            meaning="Share of the test records that are copies, or near copies, of training records.",
            better="lower",
        ),
        Metric(
            name="accuracy_without_copies",
            title="Accuracy without copies",
            meaning="Share of the test records that are no copies classified correctly.",
            better="higher",
        ),
    )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        test, train = subject.split.test, subject.split.train
        if not len(train):
            why = "there are no training records to compare with"
            return [not_applicable(_NAME, why, reason="no_records")]
        found = _found(subject, test, train)
        if not found.looked:
            return [not_applicable(_NAME, found.told, reason="no_method")]
        clusters = subject.clusters(test)
        exact, near = found.exact >= 0, found.near >= 0
        rows: list[Finding] = [share(_NAME, exact, clusters, kind="exact", how=found.told)]
        if found.near_looked_at:
            about = {"kind": "near", "within": NEAR, "of": "the median distance to the nearest training record"}
            rows.append(_near_share(found, near, about))
        copied = exact | near
        if copied.any() and not copied.all():
            right = subject.right(test)
            own = None if clusters is None else clusters[~copied]
            rows.append(share("accuracy_without_copies", right[~copied], own, **subject.decided_at))
        private = subject.recipe is not None and subject.recipe.privacy is not None
        return [*rows, split_without_copies(found, subject.dataset.y, test, concerns=_NAME if private else "accuracy")]


class RepeatedTestRecords(Evaluation):
    """Are there copies among the test records themselves? Asked beside every accuracy; nobody lists it."""

    looks_at = "probabilities"
    name: Literal["repeated_test_records"] = "repeated_test_records"

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        test = subject.split.test
        if not len(test):
            return []
        again = copied(subject.dataset, test)
        return [
            Check(
                rule="repeated_test_records",
                concerns="accuracy",
                verdict="warn" if again else "pass",
                figure=float(again),
                message=f"{again} of the {len(test)} test records are exact copies of another one: each counts again "
                "in every figure, but no interval takes it for one more record; drop copies from the data",
            )
        ]


def split_without_copies(found: Copies, y: np.ndarray, test: np.ndarray, *, concerns: str) -> Check:
    """No test record may stand among the training records, unless records are so coarse that equal ones must occur.

    Near copies count where there are more than chance explains (binomial, one in a thousand).

    Args:
        y: labels of all records.
        test: positions of the tested ones.
    """
    exact, near = found.exact >= 0, found.near >= 0
    looked, chance = found.near_looked_at, found.near_by_chance
    striking = bool(near.any()) and float(binom.sf(near.sum() - 1, looked, chance)) < 1e-3
    share_copied = float((exact | (near & striking)).mean())
    agree = int((y[test[exact]] == y[found.exact[exact]]).sum())
    message = f"{int(exact.sum())} of {len(test)} test records are exact copies of training records"
    if exact.any():
        message += f", {agree} with the same label"
    if looked:
        message += f"; {int(near.sum())} of {looked} others are near copies, {chance * looked:.2g} expected by chance"
    raised = (bool(exact.any()) and not found.coarse) or striking
    if found.coarse and exact.any():
        message += "; so few values occur that equal records must be expected"
    if raised:
        message += (
            ": the accuracy is partly one of records that were learnt by heart; drop the copies, or name the patients "
            "(group), who are never on both sides"
        )
    verdict: Literal["pass", "warn", "fail"] = "pass"
    if raised:
        verdict = "fail" if share_copied >= _MANY else "warn"
    return Check(
        rule="no_copies_across_the_split",
        concerns=concerns,
        verdict=verdict,
        figure=share_copied,
        message=message,
        conditions={"coarse": found.coarse, "how": found.told},
    )


def _near_share(found: Copies, near: np.ndarray, about: dict[str, object]) -> Measurement:
    return Measurement(
        name=_NAME,
        value=float(near.sum() / found.near_looked_at),
        n=found.near_looked_at,
        conditions={**about, "by_chance": found.near_by_chance},
    )


_FOUND: dict[tuple[str, bytes, bytes], Copies] = {}
"""The last one: all recipes of a fold share it."""


def _found(subject: Subject, test: np.ndarray, train: np.ndarray) -> Copies:
    key = (subject.dataset.digest, test.tobytes(), train.tobytes())
    if key not in _FOUND:
        _FOUND.clear()
        _FOUND[key] = copies_of(subject.dataset, test, train)
    return _FOUND[key]
