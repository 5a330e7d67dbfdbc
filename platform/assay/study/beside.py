"""What concerns several evaluations of a trial at once: it is set beside the figures of them all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.constant_answers import flattered, ranking
from assay.results import TELLS_OF, Check, Finding, Measurement


def on_sample(evaluation: Evaluation, subject: Subject) -> list[Measurement]:
    """Accuracy, without an attack or a change, on the sample of the test records that an evaluation took."""
    test = subject.split.test
    rows = evaluation.sample(subject) if len(test) else test
    if not len(rows) or (getattr(evaluation, "records", None) is None and len(rows) == len(test)):
        return []
    logits = subject.logits(rows)
    right = (logits.argmax(1) == subject.dataset.y[rows]) & np.isfinite(logits).all(1)
    return [share("sample_accuracy", right, subject.clusters(rows), evaluation=evaluation.name)]


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
