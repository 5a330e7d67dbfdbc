"""One question to one model: what an evaluation finds, and the accuracy on the sample that it took."""

from dataclasses import replace

from assay import progress
from assay.devices import repeatable
from assay.evaluations.base import Evaluation, Subject, share
from assay.metrics import undeclared
from assay.models.recurrent import differentiable
from assay.results import TELLS_OF, Finding, Measurement


def answers_to(evaluation: Evaluation, subject: Subject) -> list[Finding]:
    """What an evaluation finds; where it tells of training records it says so, for whoever would release it."""
    told = {TELLS_OF: "training records"} if evaluation.of_training_records else {}
    with progress.step(evaluation.name), repeatable(tf32=False), differentiable(subject.model):
        if evaluation.looks_at == "decisions":
            subject = subject.decided
            told |= subject.decided_at
        found = evaluation.measure(subject)
        beside = on_sample(evaluation, subject)
    absent = undeclared(evaluation.metrics, found)
    assert not absent, f"{type(evaluation).__name__}.metrics declares no {', '.join(absent)}: add a Metric for each"
    return [*(replace(one, conditions={**one.conditions, **told}) for one in found), *beside]


def on_sample(evaluation: Evaluation, subject: Subject) -> list[Measurement]:
    """Accuracy, without an attack or a change, on the sample of the test records that an evaluation took."""
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
