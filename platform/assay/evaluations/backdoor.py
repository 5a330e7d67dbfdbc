"""Success of the trigger of a backdoor."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from assay.data.poisoning.backdoor import Backdoor
from assay.errors import DataError
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.evaluations.undefended import scored, twins
from assay.metrics import Metric, ScorecardColumn
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable

_NAMES = ("backdoor_success", "backdoor_base_rate", "undefended_backdoor_success")
_LEAST = 0.9
"""Success that a backdoor must have without a defence before a defence may be scored on it."""


@register("evaluation")
class BackdoorSuccess(Evaluation):
    """Share of the test records of other classes that are classified as the target, with the trigger and without.

    A recipe with defences is trained once more without them, on the same poisoned records: if the backdoor does not
    work there, nothing is known about the defence, and its score is abstained from.
    """

    name: Literal["backdoor"] = "backdoor"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAMES[0],
            title="Backdoor success",
            meaning="Share of the test records of other classes that are classified as the attacker's class with the "
            "trigger.",
            better="lower",
            columns=(ScorecardColumn(key="backdoor", group="attack", place=110, optional=True),),
        ),
        Metric(
            name=_NAMES[1],
            title="Base rate of the backdoor",
            meaning="Share of the same records that are classified as the attacker's class without a trigger.",
        ),
        Metric(
            name=_NAMES[2],
            title="Backdoor success, undefended",
            meaning="Backdoor success on a twin of the recipe without its defences.",
        ),
    )

    undefended: bool = True
    """Whether a defended recipe is trained again without its defences; costs one more training."""
    trigger: Backdoor | None = None
    """Used where the recipe plants none: its effect on an honest model is measured. Its ``share`` is ignored."""

    @property
    def of_training_records(self) -> bool:
        return self.undefended

    def forecast(self, records: int) -> str:
        return twins(self.name, plain=0, defended=1) if self.undefended else ""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        planted = None if subject.recipe is None else _planted(subject.recipe)
        backdoor = planted or self.trigger
        if backdoor is None:
            return [not_applicable(name, "the recipe plants no backdoor", reason="not_in_recipe") for name in _NAMES]
        test = subject.split.test
        rows = test[subject.dataset.y[test] != backdoor.target]
        if not len(rows):
            why = "every test record is of the target class"
            return [not_applicable(name, why, reason="no_records") for name in _NAMES]
        about = {**backdoor.model_dump(mode="json", exclude={"name"}), "planted": planted is not None}
        try:
            success = _success(subject, backdoor, rows, about)
        except DataError as error:
            return [not_applicable(name, str(error), reason="other_kind_of_records", **about) for name in _NAMES]
        untouched = subject.decisions(subject.logits(rows)) == backdoor.target
        base = share(_NAMES[1], untouched, subject.clusters(rows), **about, **subject.decided_at)
        if planted is None:
            why = "the recipe plants no backdoor"
            return [success, base, not_applicable(_NAMES[2], why, reason="not_in_recipe", **about)]
        judged = scored(
            subject, success, lambda other: _success(other, backdoor, rows, about), least=_LEAST, train=self.undefended
        )
        return [*judged, base]


def _planted(recipe: Recipe) -> Backdoor | None:
    """Returns the backdoor of a recipe, which has one at most."""
    return next((treatment for treatment in recipe.data if isinstance(treatment, Backdoor)), None)


def _success(subject: Subject, backdoor: Backdoor, rows: np.ndarray, about: dict[str, Any]) -> Measurement:
    """Measures how often the trigger succeeds on the given rows of other classes."""
    stamped = (backdoor.stamp(subject.dataset.x[part], subject.dataset.bounds) for part in subject.pieces(rows))
    hits = subject.decisions(subject.answers(stamped)) == backdoor.target
    return share(_NAMES[0], hits, subject.clusters(rows), **about, **subject.decided_at)
