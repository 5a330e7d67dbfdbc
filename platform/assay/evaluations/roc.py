"""How well scores tell members from others: area, true-positive rates at low false-positive ones, and a curve of them.

A rate counts only where the non-members suffice: at 10 over the false-positive rate about ten of them are accused,
and with fewer the threshold would be a matter of luck.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from assay import seeds, statistics
from assay.evaluations.base import Subject, estimated, share
from assay.evaluations.pool import Pool
from assay.results import Measurement, ReasonCode, not_applicable

Rate = Annotated[float, Field(gt=0, lt=1)]
RATES = (0.1, 0.01, 0.001)
"""False-positive rates at which every attack is judged."""


def told_apart(
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
    """``STEM_auc``, and ``STEM_tpr`` at the rates that were asked for and at those between, which make a curve.

    Intervals draw members and non-members anew, patients whole: the threshold is uncertain too. That of a rate also
    holds Wilson's at the threshold as it stands, since no draw of members that all lie below it finds any above.

    Args:
        score: (n,) of ``pool.rows``; the higher, the surer the attack is of a member.
    """
    about = {**conditions, "members": len(pool.members), "non_members": len(pool.others)}
    carried = sorted({rate for rate in {*rates, *ladder(len(pool.others))} if needed(rate) <= len(pool.others)})
    is_member = pool.is_member
    area, *known = statistics.bootstrap_curve(
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
    """The area, and the true-positive rate at each false-positive one; NaN where members or others are missing."""
    members, others = score[is_member], score[~is_member]
    if not len(members) or not len(others):
        return np.full(1 + len(rates), np.nan)
    limits = np.array([threshold(others, rate) for rate in rates])
    above = len(members) - np.searchsorted(np.sort(members), limits, side="right")
    return np.array([statistics.auroc(is_member, score), *(above / len(members))])


def unanswered(
    stem: str, why: str, reason: ReasonCode, *, rates: Sequence[float], **conditions: Any
) -> list[Measurement]:
    """The rows of an attack that could not be asked."""
    area = not_applicable(f"{stem}_auc", why, reason=reason, **conditions)
    return [
        area,
        *(not_applicable(f"{stem}_tpr", why, reason=reason, false_positive_rate=r, **conditions) for r in rates),
    ]


def needed(rate: float) -> int:
    """Non-members without which a false-positive rate means nothing."""
    return math.ceil(round(10 / rate, 6))


def ladder(non_members: int) -> list[float]:
    """Points of a curve on a logarithmic axis: 0.5, 0.2, 0.1, 0.05, … as far as so many non-members carry."""
    steps = (float(f"{digit}e-{decade}") for decade in range(1, 10) for digit in (5, 2, 1))
    return [rate for rate in steps if needed(rate) <= non_members]


def threshold(non_members: np.ndarray, rate: float) -> float:
    """The least score above which at most this share of the non-members lies."""
    allowed = math.floor(round(rate * len(non_members), 6))
    return float(np.sort(non_members)[::-1][allowed])
