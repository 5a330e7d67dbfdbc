"""Are the records that an attacker aimed at taken for what it wanted?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from assay.data.poisoning.feature_collision import FeatureCollision
from assay.data.treatment import held_out
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.undefended import undefended
from assay.federated.client import client_seed
from assay.federated.partition import partition
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable

_NAMES = ("collision_success", "undefended_collision_success")
_LEAST = 0.5
"""Success that a collision must have without a defence before one may be scored on it."""


@register("evaluation")
class CollisionSuccess(Evaluation):
    """Share of the targets of the recipe's feature collision that the model takes for the base class.

    The targets were held out of training; the seed tells which they were. They are few, so the interval is wide. Where
    the recipe defends itself, it is trained once more without its defences, on the same poisoned records.
    """

    name: Literal["feature_collision"] = "feature_collision"
    undefended: bool = True
    """Whether a defended recipe is trained again without its defences; costs one more training."""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.recipe is None or subject.log is None:
            return [not_applicable(name, "Assay did not train this model") for name in _NAMES]
        collision = _collision(subject.recipe)
        if collision is None:
            return [not_applicable(name, "the recipe collides no features") for name in _NAMES]
        if not len(_targets(subject, subject.recipe)):
            why = "no training record is of another class than the base"
            return [not_applicable(name, why, **_about(collision)) for name in _NAMES]
        success = _success(subject)
        return [success, *undefended(subject, success, _success, least=_LEAST, train=self.undefended)]


def _collision(recipe: Recipe) -> FeatureCollision | None:
    """The first feature collision of a recipe."""
    return next((treatment for treatment in recipe.data if isinstance(treatment, FeatureCollision)), None)


def _about(collision: FeatureCollision) -> dict[str, object]:
    return collision.model_dump(mode="json", exclude={"name"})


def _success(subject: Subject) -> Measurement:
    """How many of the targets of the subject's recipe are taken for the base class."""
    assert subject.recipe is not None
    collision, rows = _collision(subject.recipe), _targets(subject, subject.recipe)
    assert collision is not None
    hits = subject.logits(rows).argmax(1) == collision.base
    return share(_NAMES[0], hits, subject.groups(rows), seed=subject.seed, **_about(collision))


def _targets(subject: Subject, recipe: Recipe) -> np.ndarray:
    """Positions of the records at which the first collision aims; at each client, of its own."""
    y = subject.dataset.y
    return np.concatenate(
        [
            rows[held_out(recipe.data, y[rows], seed=seed)["feature_collision"]]
            for rows, seed in _trainings(subject, recipe)
        ]
    )


def _trainings(subject: Subject, recipe: Recipe) -> list[tuple[np.ndarray, int]]:
    """The records that each trainer was given, and its seed."""
    rows = subject.split.train
    if recipe.federation is None:
        return [(rows, subject.seed)]
    parts = partition(rows, subject.dataset.y[rows], recipe.federation, seed=subject.seed, groups=subject.groups(rows))
    return [(own, client_seed(subject.seed, number)) for number, own in enumerate(parts, start=1)]
