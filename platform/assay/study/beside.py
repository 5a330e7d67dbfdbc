"""What concerns several evaluations of a trial at once: it stands beside the figures of them all."""

from collections.abc import Sequence

import numpy as np

from assay.data.clusters import copied
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.constant_answers import answers_of, check, flattered, ranking
from assay.results import TELLS_OF, Check, Finding, Measurement


def on_samples(evaluations: Sequence[Evaluation], subject: Subject) -> list[Measurement]:
    """Accuracy, without an attack or a change, on the sample of the test records that an evaluation took."""
    found, test = [], subject.split.test
    for evaluation in evaluations:
        rows = evaluation.sample(subject) if len(test) else test
        if not len(rows) or (getattr(evaluation, "records", None) is None and len(rows) == len(test)):
            continue
        logits = subject.logits(rows)
        right = (logits.argmax(1) == subject.dataset.y[rows]) & np.isfinite(logits).all(1)
        about = {"evaluation": evaluation.name}
        found.append(share("sample_accuracy", right, subject.clusters(rows), **about))
    return found


def of_the_whole(subject: Subject, found: Sequence[Finding]) -> list[Check]:
    """Checks of a model that answers one class, of ranks, and of copies among the test records."""
    if not len(subject.split.test):
        return []
    rows = [one for one in found if isinstance(one, Measurement)]
    names = [row.name for row in rows]
    # Of figures alone that stay with the curator, nothing is told beside them that would not stay there.
    released = flattered(row.name for row in rows if TELLS_OF not in row.conditions)
    answers = answers_of(subject) if released else None
    checks = [*([] if answers is None else check(answers, names)), *ranking(rows)]
    return [*checks, _repeated(subject)] if "accuracy" in names else checks


def _repeated(subject: Subject) -> Check:
    """Copies among the test records themselves; those of training records are for ``evaluations.copies``."""
    test = subject.split.test
    again = copied(subject.dataset, test)
    return Check(
        rule="repeated_test_records",
        concerns="accuracy",
        verdict="warn" if again else "pass",
        figure=float(again),
        message=f"{again} of the {len(test)} test records are exact copies of another one: each counts again in every "
        "figure, but no interval takes it for one more record; drop copies from the data",
    )
