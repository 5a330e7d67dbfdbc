"""Test records that are copies, or near copies, of training records."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import binom

from assay.data.clusters import copied
from assay.data.copies import NEAR, Copies, copies_of
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable

_NAME = "copied_records"
_MANY = 0.1
"""Share of copies at which the accuracy no longer describes new records."""


@register("evaluation")
class CopiedRecords(Evaluation):
    """Share of the test records that are also training records, and accuracy on the others.

    It runs with every accuracy without being listed, except for private recipes: its result depends on training
    records, and no ε pays for that. There it must be listed, and its check concerns its own figure only.
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
    """Checks for copies among the test records. It runs with every accuracy without being listed."""

    looks_at = "probabilities"
    name: Literal["repeated_test_records"] = "repeated_test_records"
    needs_shared_model: ClassVar[bool] = False

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
    """Checks that no test record is a training record, except where records are so coarse that equal ones must occur.

    Near copies count where there are more than chance explains (binomial, one in a thousand).

    Args:
        found: result of the search for copies.
        y: labels of all records.
        test: positions of the test records.
        concerns: name of the measurement that the check concerns.

    Returns:
        The check.
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


_COPIES: dict[tuple[str, bytes, bytes], Copies] = {}
"""The last search, which all recipes of a fold share."""


def _found(subject: Subject, test: np.ndarray, train: np.ndarray) -> Copies:
    key = (subject.dataset.digest, test.tobytes(), train.tobytes())
    if key not in _COPIES:
        _COPIES.clear()
        _COPIES[key] = copies_of(subject.dataset, test, train)
    return _COPIES[key]
