"""Success of clean-label poisoning by feature collision."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from assay.data.partition import partition_dataset
from assay.data.poisoning.feature_collision import FeatureCollision
from assay.data.treatment import held_out
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.evaluations.undefended import reason_for_no_twin, scored, twins, why_no_twin
from assay.metrics import Metric, ScorecardColumn
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable
from assay.seeds import client_seed

_NAMES = ("collision_success", "undefended_collision_success", "collision_base_rate")
_LEAST = 0.5
"""Success beyond the base rate that a collision must have without a defence before a defence may be scored on it."""


@register("evaluation")
class CollisionSuccess(Evaluation):
    """Share of the targets of the recipe's feature collision that the model classifies as the base class.

    The targets were held out of training; the seed determines them. They are few, so the interval is wide. An honest
    model also misclassifies some of them: the base rate is that of a twin that learns from the same records without
    collision or defence. A recipe with defences is trained once more without them, on the same poisoned records.
    """

    name: Literal["feature_collision"] = "feature_collision"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAMES[0],
            title="Collision success",
            meaning="Share of the targets of clean-label poison that are classified as the attacker's class.",
            better="lower",
            columns=(ScorecardColumn(key="collision", group="attack", place=120, optional=True),),
        ),
        Metric(
            name=_NAMES[1],
            title="Collision success, undefended",
            meaning="Collision success on a twin of the recipe without its defences.",
        ),
        Metric(
            name=_NAMES[2],
            title="Base rate of the collision",
            meaning="Collision success on a twin that learnt neither from these records nor from poison.",
        ),
    )

    undefended: bool = True
    """Whether twins are trained: one without the collision, and of a defended recipe one without its defences."""

    def forecast(self, records: int) -> str:
        return twins(self.name, plain=1, defended=2) if self.undefended else ""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.recipe is None or subject.log is None:
            why = "Assay did not train this model"
            return [not_applicable(name, why, reason="not_trained_here") for name in _NAMES]
        collision = _collision(subject.recipe)
        if collision is None:
            return [not_applicable(name, "the recipe collides no features", reason="not_in_recipe") for name in _NAMES]
        if not len(_targets(subject, subject.recipe)):
            why = "no training record is of another class than the base"
            return [not_applicable(name, why, reason="no_records", **_about(collision)) for name in _NAMES]
        return scored(
            subject,
            _success(subject),
            _success,
            least=_LEAST,
            train=self.undefended,
            base_rate=lambda other: _base_rate(other, train=self.undefended),
        )


def _collision(recipe: Recipe) -> FeatureCollision | None:
    """Returns the feature collision of a recipe, which has one at most."""
    return next((treatment for treatment in recipe.data if isinstance(treatment, FeatureCollision)), None)


def _about(collision: FeatureCollision) -> dict[str, object]:
    return collision.model_dump(mode="json", exclude={"name"})


def _success(subject: Subject) -> Measurement:
    """Measures how many of the targets of the subject's recipe are classified as the base class."""
    assert subject.recipe is not None
    collision, rows = _collision(subject.recipe), _targets(subject, subject.recipe)
    assert collision is not None
    hits = subject.decisions(subject.logits(rows)) == collision.base
    return share(_NAMES[0], hits, subject.clusters(rows), **_about(collision), **subject.decided_at)


def _base_rate(subject: Subject, *, train: bool) -> Measurement:
    """Measures the same on a twin that learnt neither from the targets nor from poison."""
    assert subject.recipe is not None
    collision = _collision(subject.recipe)
    assert collision is not None
    if why := why_no_twin(subject, train=train):
        return not_applicable(_NAMES[2], why, reason=reason_for_no_twin(train=train), **_about(collision))
    assert subject.train is not None
    kept = tuple(step for step in subject.recipe.data if not step.defends and step is not collision)
    honest = subject.recipe.model_copy(update={"data": kept, "federation": None})
    # The targets are no part of the rows: without the collision nobody else would hold them out. In order, as a
    # treatment draws by position.
    rows = subject.split.train[~np.isin(subject.split.train, _targets(subject, subject.recipe))]
    model = subject.train(rows, "", honest).to(subject.device).eval()
    return replace(_success(replace(subject, model=model)), name=_NAMES[2])


def _targets(subject: Subject, recipe: Recipe) -> np.ndarray:
    """Returns the positions of the records at which the collision aims; at each client, of its own."""
    y = subject.dataset.y
    return np.concatenate(
        [
            rows[held_out(recipe.data, y[rows], seed=seed)["feature_collision"]]
            for rows, seed in _trainings(subject, recipe)
        ]
    )


def _trainings(subject: Subject, recipe: Recipe) -> list[tuple[np.ndarray, int]]:
    """Returns the records that each trainer was given, and its seed."""
    rows = subject.split.train
    if recipe.federation is None:
        return [(rows, subject.seed)]
    parts = partition_dataset(subject.dataset, rows, recipe.federation, seed=subject.seed)
    return [(own, client_seed(subject.seed, number)) for number, own in enumerate(parts, start=1)]
