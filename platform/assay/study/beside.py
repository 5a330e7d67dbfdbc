"""What concerns several evaluations of a trial at once: it is set beside the figures of them all."""

from collections.abc import Sequence
from dataclasses import replace

from assay.evaluations.constant_answers import flattered, ranking
from assay.results import TELLS_OF, Check, Finding, Measurement


def of_the_whole(found: Sequence[Finding]) -> list[Finding]:
    """All answers of a trial, where checks that concern whatever was measured name it; and the check of ranks.

    Of figures alone that stay with the curator, nothing is told beside them that would not stay there.
    """
    rows = [one for one in found if isinstance(one, Measurement)]
    flattered_ones = flattered(row.name for row in rows)
    told = bool(flattered(row.name for row in rows if TELLS_OF not in row.conditions))
    joined: list[Finding] = []
    for one in found:
        if not isinstance(one, Check) or one.concerns:
            joined.append(one)
        elif told:
            joined.append(replace(one, concerns=flattered_ones))
    return [*joined, *ranking(rows)]
