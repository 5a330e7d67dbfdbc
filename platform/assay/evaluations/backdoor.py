"""Does the trigger that an attacker planted open the model?"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from assay.data.poisoning.backdoor import Backdoor
from assay.errors import DataError
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.undefended import scored, twins
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable

_NAMES = ("backdoor_success", "backdoor_base_rate", "undefended_backdoor_success")
_LEAST = 0.9
"""Success that a backdoor must have without a defence before one may be scored on it."""


@register("evaluation")
class BackdoorSuccess(Evaluation):
    """Share of the test records of other classes that the recipe's trigger sends to its target, and without trigger.

    Where the recipe defends itself, it is trained once more without its defences, on the same poisoned records: a
    defence against a backdoor that would not have worked has shown nothing, and its score is abstained from.
    """

    name: Literal["backdoor"] = "backdoor"
    undefended: bool = True
    """Whether a defended recipe is trained again without its defences; costs one more training."""
    trigger: Backdoor | None = None
    """Stamped where the recipe plants none: what the trigger does to an honest model. Its ``share`` means nothing."""

    @property
    def of_training_records(self) -> bool:
        return self.undefended

    def forecast(self, records: int) -> str:
        return twins(self.name, plain=0, defended=1) if self.undefended else ""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        planted = None if subject.recipe is None else _planted(subject.recipe)
        backdoor = planted or self.trigger
        if backdoor is None:
            return [not_applicable(name, "the recipe plants no backdoor") for name in _NAMES]
        test = subject.split.test
        rows = test[subject.dataset.y[test] != backdoor.target]
        if not len(rows):
            return [not_applicable(name, "every test record is of the target class") for name in _NAMES]
        about = {**backdoor.model_dump(mode="json", exclude={"name"}), "planted": planted is not None}
        try:
            success = _success(subject, backdoor, rows, about)
        except DataError as error:
            return [not_applicable(name, str(error), **about) for name in _NAMES]
        untouched = subject.decisions(subject.logits(rows)) == backdoor.target
        base = share(_NAMES[1], untouched, subject.clusters(rows), **about, **subject.decided_at)
        if planted is None:
            return [success, base, not_applicable(_NAMES[2], "the recipe plants no backdoor", **about)]
        judged = scored(
            subject, success, lambda other: _success(other, backdoor, rows, about), least=_LEAST, train=self.undefended
        )
        return [*judged, base]


def _planted(recipe: Recipe) -> Backdoor | None:
    """The backdoor of a recipe, which takes one at most."""
    return next((treatment for treatment in recipe.data if isinstance(treatment, Backdoor)), None)


def _success(subject: Subject, backdoor: Backdoor, rows: np.ndarray, about: dict[str, Any]) -> Measurement:
    """How often the trigger wins on the given rows of other classes."""
    stamped = (backdoor.stamp(subject.dataset.x[part], subject.dataset.bounds) for part in subject.pieces(rows))
    hits = subject.decisions(subject.answers(stamped)) == backdoor.target
    return share(_NAMES[0], hits, subject.clusters(rows), **about, **subject.decided_at)
