"""Certified accuracy by interval bounds."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay import seeds
from assay.attacks.curve import answers_alike
from assay.bounds.interval import UnboundableError, certified_by_intervals
from assay.evaluations.attack_runs import as_used
from assay.evaluations.balanced import by_class, metrics_by_class
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share_by_record
from assay.evaluations.subject import Subject
from assay.metrics import AT_RADIUS, Metric, ScorecardColumn, after_radius
from assay.models.batches import places
from assay.registry import Number, register
from assay.results import Finding, ReasonCode, not_applicable
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Threat

_BY_INTERVALS = {"method": "interval bounds"}
_SHOWN: dict[str, Any] = {
    "group": "attack",
    "where": {**_BY_INTERVALS, **AT_RADIUS},
    "texts": {"epsilon": after_radius},
    "sampled": True,
}


@register("evaluation")
class Certificates(Evaluation):
    """Certified accuracy by interval bounds: the share of records proven to be answered correctly within ε (L∞).

    A lower bound of the worst-case accuracy, often a loose one where the model was not trained for certificates. The
    robustness evaluation compares every certificate with every attack.
    """

    looks_at = "decisions"
    name: Literal["certificates"] = "certificates"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="certified_accuracy",
            title="Certified",
            meaning="Share of records proven to be classified correctly within ε, whatever the attack, known or not.",
            better="higher",
            where=_BY_INTERVALS,
            of_sample=True,
            against_accuracy=True,
            columns=(
                ScorecardColumn(key="certified", place=70, title="Certified{epsilon}", beside="robust", **_SHOWN),
            ),
        ),
        *metrics_by_class(
            "certified",
            "that are proven to be classified correctly",
            where=_BY_INTERVALS,
            columns={
                "balanced_accuracy": ScorecardColumn(
                    key="certified_balanced", place=50, title="Certified, balanced{epsilon}", optional=True, **_SHOWN
                )
            },
        ),
    )

    epsilons: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    """Radii in the units of the data; those the data set proposes by default."""
    records: int | None = Field(default=None, ge=10)
    """Test records that are bounded, stratified; all by default."""

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = self.sample(subject)
        x, y = subject.records(rows)
        groups = subject.clusters(rows)
        radii = sorted({*(self.epsilons or subject.dataset.epsilons)} - {0.0})
        about = {"norm": "linf", "units": subject.space, "method": "interval bounds"}
        if _answers_at_random(subject, x):
            why = "the model answers at random, so a bound of one answer holds for no other"
            return [_without(why, "random_answers", epsilon=radius, **about) for radius in radii]
        found: list[Finding] = []
        for epsilon in radii:
            threat = Threat(norm="linf", epsilon=epsilon, bounds=subject.bounds, goal=subject.task.criterion)
            try:
                proven = proven_right(subject.model, x, y, threat, task=subject.task)
            except UnboundableError as error:
                return [_without(str(error), "no_method", epsilon=radius, **about) for radius in radii]
            found.append(
                share_by_record(
                    "certified_accuracy",
                    proven.cpu().numpy(),
                    groups,
                    rows,
                    epsilon=epsilon,
                    holds_for="this model, answering without randomness",
                    **about,
                )
            )
            found += by_class("certified", subject, rows, proven.cpu().numpy(), epsilon=epsilon, **about)
        return found


def _without(why: str, reason: ReasonCode, **about: Any) -> Finding:
    return not_applicable("certified_accuracy", why, reason=reason, **about)


def _answers_at_random(subject: Subject, x: Tensor) -> bool:
    """Returns whether two passes in evaluation mode differ."""
    with as_used(subject.model), seeds.generators_kept():
        torch.manual_seed(seeds.torch_seed(subject.seed, "certificates"))
        return not answers_alike(subject.model, x)


def proven_right(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, task: Task = CLASSIFICATION) -> Tensor:
    """Returns which records interval bounds prove to be answered correctly, batch by batch.

    Args:
        model: from records to logits.
        x: (n, ...) records.
        y: (n,) labels.
        threat: norm, radius and bounds.
        task: defines when an answer is wrong.

    Returns:
        (n,) bool.

    Raises:
        UnboundableError: the network contains a layer for which no bound is known.
    """
    parts = places(len(x), tuple(x.shape[1:]))
    return torch.cat([certified_by_intervals(model, x[p], y[p], threat, task=task) for p in parts])
