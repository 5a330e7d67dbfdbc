"""Checks that concern several evaluations of a trial together."""

from collections.abc import Sequence
from dataclasses import replace

from assay.evaluations.constant_answers import inflated_by_constant_answers, ranking
from assay.results import TELLS_OF, Check, Finding, Measurement


def of_the_whole(found: Sequence[Finding]) -> list[Finding]:
    """Completes the findings of a trial with what concerns all of them.

    A check that names no measurement is attached to every measurement that a constant answer makes look good. It is
    left out where all of these measurements stay with the curator, because the check would stay there too.

    Args:
        found: the findings of all evaluations of a trial.

    Returns:
        The findings, with the check of ranks added.
    """
    rows = [finding for finding in found if isinstance(finding, Measurement)]
    inflated = inflated_by_constant_answers(row.name for row in rows)
    releasable = bool(inflated_by_constant_answers(row.name for row in rows if TELLS_OF not in row.conditions))
    joined: list[Finding] = []
    for finding in found:
        if not isinstance(finding, Check) or finding.concerns:
            joined.append(finding)
        elif releasable:
            joined.append(replace(finding, concerns=inflated))
    return [*joined, *ranking(rows)]
