"""What concerns several evaluations of a trial at once: it stands beside the figures of them all."""

from collections.abc import Sequence

import numpy as np

from assay.data.clusters import copied
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.constant_answers import answers_of, check, ranking
from assay.results import Check, Finding, Measurement


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
        found.append(share("sample_accuracy", right, subject.clusters(rows), seed=subject.seed, **about))
    return found


def of_the_whole(subject: Subject, found: Sequence[Finding]) -> list[Check]:
    """Checks of a model that answers one class, and of copied test records."""
    test = subject.split.test
    rows = [one for one in found if isinstance(one, Measurement)]
    names = [row.name for row in rows]
    answers = answers_of(subject) if len(test) else None
    again = copied(subject.dataset, test)
    copies = Check(
        rule="copied_test_records",
        concerns="accuracy",
        verdict="warn" if again else "pass",
        figure=float(again),
        message=f"{again} of the {len(test)} test records are exact copies of another one: each counts again in every "
        "figure, but no interval takes it for one more record; drop copies from the data",
    )
    return [*([] if answers is None else check(answers, names)), *ranking(rows), copies]
