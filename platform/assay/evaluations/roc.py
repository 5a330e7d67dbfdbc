"""Metrics of membership attacks: area under the curve, and true-positive rates at low false-positive rates.

A rate is measured only with enough non-members: with 10 divided by the false-positive rate, about ten of them are false
positives; with fewer, the threshold would depend on chance.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from assay import intervals, seeds
from assay.evaluations.pool import Pool
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.results import Measurement, ReasonCode, not_applicable

Rate = Annotated[float, Field(gt=0, lt=1)]
RATES = (0.1, 0.01, 0.001)
"""False-positive rates at which every attack is judged."""


def membership_figures(
    stem: str,
    subject: Subject,
    pool: Pool,
    score: np.ndarray,
    *,
    rates: Sequence[float],
    draws: int,
    conditions: dict[str, Any],
    warnings: Sequence[str] = (),
) -> list[Measurement]:
    """Measures ``STEM_auc``, and ``STEM_tpr`` at the given rates and at those between, which form a curve.

    Intervals resample members and non-members, by patient, because the threshold is uncertain too. The interval of a
    rate also covers Wilson's at the fixed threshold, because no resample contains members above a threshold that none
    exceeds.

    Args:
        stem: of the names.
        subject: the trained model with its data.
        pool: members and non-members.
        score: (n,) of ``pool.rows``; higher means more likely a member.
        rates: false-positive rates.
        draws: of the bootstrap.
        conditions: of every row.
        warnings: of every row.

    Returns:
        The measurements; not applicable at rates that need more non-members.
    """
    about = {**conditions, "members": len(pool.members), "non_members": len(pool.others)}
    carried = sorted({rate for rate in {*rates, *ladder(len(pool.others))} if needed(rate) <= len(pool.others)})
    is_member = pool.is_member
    area, *known = intervals.bootstrap_curve(
        lambda i: _figures(is_member[i], score[i], carried),
        len(score),
        generator=seeds.stream(subject.seed, "bootstrap", stem),
        draws=draws,
        groups=subject.clusters(pool.rows),
    )
    found = [estimated(f"{stem}_auc", area, n=len(score), conditions=about)]
    members, others = score[is_member], score[~is_member]
    for rate, interval in sorted(zip(carried, known, strict=True), reverse=True, key=lambda pair: pair[0]):
        hits = members > threshold(others, rate)
        row = share(
            f"{stem}_tpr",
            hits,
            subject.clusters(pool.members),
            false_positive_rate=rate,
            **about,
        )
        low, high = np.fmin(row.low, interval.low), np.fmax(row.high, interval.high)
        found.append(replace(row, low=float(low), high=float(high)))
    found = [row.warn(*warnings) for row in found]
    for rate in sorted({*rates} - {*carried}, reverse=True):
        why = f"TPR at {round(100 * rate, 6)}% FPR needs at least {needed(rate)} non-members, there are {len(others)}"
        found.append(not_applicable(f"{stem}_tpr", why, reason="too_few_records", false_positive_rate=rate, **about))
    return found


def _figures(is_member: np.ndarray, score: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """Returns the area, and the true-positive rate at each false-positive rate; NaN without members or non-members."""
    members, others = score[is_member], score[~is_member]
    if not len(members) or not len(others):
        return np.full(1 + len(rates), np.nan)
    limits = np.array([threshold(others, rate) for rate in rates])
    above = len(members) - np.searchsorted(np.sort(members), limits, side="right")
    return np.array([intervals.auroc(is_member, score), *(above / len(members))])


def membership_not_applicable(
    stem: str, why: str, reason: ReasonCode, *, rates: Sequence[float], **conditions: Any
) -> list[Measurement]:
    """Returns the rows of a membership attack that could not be run.

    Args:
        stem: of the names.
        why: reason, in words.
        reason: as a code.
        rates: false-positive rates.
        conditions: of every row.

    Returns:
        One row for the area and one for each rate.
    """
    area = not_applicable(f"{stem}_auc", why, reason=reason, **conditions)
    return [
        area,
        *(not_applicable(f"{stem}_tpr", why, reason=reason, false_positive_rate=r, **conditions) for r in rates),
    ]


def needed(rate: float) -> int:
    """Returns the number of non-members that a false-positive rate needs.

    Args:
        rate: in (0, 1).

    Returns:
        10 / rate, rounded up.
    """
    return math.ceil(round(10 / rate, 6))


def ladder(non_members: int) -> list[float]:
    """Returns the points of a curve on a logarithmic axis: 0.5, 0.2, 0.1, 0.05 and so on.

    Args:
        non_members: how many there are.

    Returns:
        The rates for which they suffice, descending.
    """
    steps = (float(f"{digit}e-{decade}") for decade in range(1, 10) for digit in (5, 2, 1))
    return [rate for rate in steps if needed(rate) <= non_members]


def threshold(non_members: np.ndarray, rate: float) -> float:
    """Returns the lowest score above which at most a share of the non-members lies.

    Args:
        non_members: (n,) scores.
        rate: the share, in (0, 1).

    Returns:
        The score.
    """
    allowed = math.floor(round(rate * len(non_members), 6))
    return float(np.sort(non_members)[::-1][allowed])
