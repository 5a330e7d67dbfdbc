"""Detects catastrophic overfitting of fast adversarial training, and rolls it back."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from assay.objectives.base import Objective, Watch
from assay.training.hooks.base import Hook
from assay.training.hooks.probe import Probe
from assay.training.snapshots import snapshot

if TYPE_CHECKING:
    from assay.training.loop import Trainer

_MOST_ROLLBACKS = 4
"""Number of rollbacks after which only the last epoch is measured: the attack then has sixteen steps, as PGD has."""

_NOISE = 0.1
"""Difference of two accuracies that is too small to conclude anything from a hundred records."""


class OverfittingGuard(Hook):
    """Compares accuracy under the training's own adversarial examples with that under PGD.

    See ``objectives.base.Watch`` for the thresholds. Where accuracy under PGD is far lower, training rolls back to the
    last good weights and optimizer state, and continues with an attack of more steps (``Batch.rollbacks``). The last
    epoch is always measured: if it has overfitted, training ends with the last good weights. If there are none, the
    weights stay as they are, and a note says so. All workers measure the same accuracies and take the same decision.

    The hook reads training records and chooses weights by them, and no ε is charged for that; so it is refused with
    privacy.

    Args:
        objective: crafts the training's own examples, and those of the stronger attack.
        watch: epochs between measurements, and the least ratio of the two accuracies.
        probe: measures balanced accuracy on fixed training records.
    """

    name = "overfitting_guard"

    def __init__(self, objective: Objective, watch: Watch, probe: Probe) -> None:
        self._objective, self._watch, self._probe = objective, watch, probe
        self._notes: list[str] = []
        self._kept: dict[str, Tensor] = {}
        self._kept_epoch = 0

    @property
    def notes(self) -> Sequence[str]:
        return self._notes

    def begin(self, trainer: "Trainer") -> None:
        """Keeps a snapshot of the weights, the earliest to which training can roll back."""
        self._kept, self._kept_epoch = snapshot(trainer.model, trainer.optimizer), trainer.epoch

    def after_epoch(self, trainer: "Trainer", *, last: bool) -> None:
        if not last and (trainer.epoch % self._watch.every or trainer.rollbacks >= _MOST_ROLLBACKS):
            return
        weak, strong = (
            self._probe.balanced_accuracy(trainer.model, attack, rollbacks=trainer.rollbacks)
            for attack in (self._objective.craft, self._objective.verify)
        )
        if strong >= self._watch.least_share * weak or weak - strong < _NOISE:
            self.begin(trainer)
            return
        self._notes.append(
            f"catastrophic overfitting after epoch {trainer.epoch}: balanced accuracy on {len(self._probe)} training "
            f"records is {weak:.0%} under the training's own examples and {strong:.0%} under PGD-{self._watch.steps}; "
            + self._consequence(trainer.rollbacks, last=last)
        )
        if not last or self._kept_epoch:
            trainer.roll_back(self._kept, by=self)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._kept, {"notes": self._notes, "kept_epoch": self._kept_epoch}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._kept, self._kept_epoch = dict(tensors), about["kept_epoch"]
        self._notes = list(about["notes"])

    def _consequence(self, rollbacks: int, *, last: bool) -> str:
        """Returns what happened after overfitting was found, as a sentence."""
        if not last:
            return f"training went back to epoch {self._kept_epoch}, and on with a finer attack"
        tried = f", having gone back before ({rollbacks} times)," if rollbacks else ""
        if self._kept_epoch:
            return f"training ended{tried} with the weights of epoch {self._kept_epoch}"
        return (
            f"training ended{tried} and no look was in order, so the weights are left as they are: the model has "
            "overfitted to the training's own step and withstands little else; train it with pgd"
        )
