"""What the recipe costs in time and memory of weights."""

from collections.abc import Sequence
from typing import Literal

from assay.evaluations.base import Evaluation, Subject
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable


@register("evaluation")
class Cost(Evaluation):
    """Wall time of training, the same summed over workers or clients, and the number of parameters.

    The ratio to the standard recipe is formed in the report, over the same folds.
    """

    name: Literal["cost"] = "cost"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        parameters = sum(parameter.numel() for parameter in subject.model.parameters())
        found = [Measurement(name="parameters", value=float(parameters), unit="count", n=1)]
        if subject.log is None:
            why = "Assay did not train this model"
            return [
                *found,
                not_applicable("training_seconds", why),
                not_applicable("training_worker_seconds", why),
            ]
        about = {"workers": subject.log.workers, "records": len(subject.split.train)}
        return [
            *found,
            Measurement(
                name="training_seconds",
                value=subject.log.seconds,
                unit="seconds",
                n=len(subject.split.train),
                conditions=about,
            ),
            Measurement(
                name="training_worker_seconds",
                value=subject.log.worker_seconds,
                unit="seconds",
                n=len(subject.split.train),
                conditions=about,
            ),
        ]
