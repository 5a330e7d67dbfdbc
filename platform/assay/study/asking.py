"""Runs one evaluation on one model, with the accuracy on the sample of test records that it used."""

from dataclasses import replace

from assay import progress
from assay.devices import repeatable
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.metrics import undeclared
from assay.models.recurrent import differentiable
from assay.results import TELLS_OF, Finding, Measurement, not_applicable


def answers_to(evaluation: Evaluation, subject: Subject) -> list[Finding]:
    """Runs an evaluation on a model.

    Figures that depend on training records carry a condition that says so, which keeps them out of releases.

    Args:
        evaluation: to run.
        subject: the trained model with its data.

    Returns:
        The findings of the evaluation, and the accuracy on its sample if it used one. Where the recipe personalises,
        they have a condition that says that the shared network was measured; they do not apply where that is no model.
    """
    if evaluation.needs_shared_model and (why := subject.why_no_shared_model):
        return [
            not_applicable(metric.name, why, reason="no_shared_model", **metric.where) for metric in evaluation.metrics
        ]
    conditions = {TELLS_OF: "training records"} if evaluation.of_training_records else {}
    if evaluation.needs_shared_model and subject.personalised:
        conditions["network"] = "shared"
    with progress.step(evaluation.name), repeatable(tf32=False), differentiable(subject.model):
        if evaluation.looks_at == "decisions":
            subject = subject.decided
            conditions |= subject.decided_at
        findings = evaluation.measure(subject)
        sample_accuracy = on_sample(evaluation, subject)
    absent = undeclared(evaluation.metrics, findings)
    assert not absent, f"{type(evaluation).__name__}.metrics declares no {', '.join(absent)}: add a Metric for each"
    return [
        *(replace(finding, conditions={**finding.conditions, **conditions}) for finding in findings),
        *sample_accuracy,
    ]


def on_sample(evaluation: Evaluation, subject: Subject) -> list[Measurement]:
    """Measures accuracy, without an attack or a change, on the sample of the test records that an evaluation used.

    Args:
        evaluation: that chose the sample.
        subject: the trained model with its data.

    Returns:
        One measurement; none where the evaluation used all test records.
    """
    test = subject.split.test
    rows = evaluation.sample(subject) if len(test) else test
    if not len(rows) or (getattr(evaluation, "records", None) is None and len(rows) == len(test)):
        return []
    return [
        share(
            "sample_accuracy",
            subject.right(rows),
            subject.clusters(rows),
            evaluation=evaluation.name,
            **subject.decided_at,
        )
    ]
