"""Watches over catastrophic overfitting, and leads training back from it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.objectives.base import Objective, Watch
from assay.training.probe import Probe
from assay.training.snapshots import put_back, snapshot

_MOST = 4
"""Recoveries after which nobody looks before the end: sixteen steps are as many as PGD has."""

_NOISE = 0.1
"""A difference of two accuracies below which a hundred records say nothing: a network that has hardly learnt yet."""


class Lookout:
    """Compares the training's own examples with the attack that they stand for; see ``objectives.base.Watch``.

    The last epoch is always looked at, so that no network leaves training unwatched: it too goes back to the last look
    that was in order; where none was, it stays as it is, and a note says so. All workers see the same figures and take
    the same decision.
    """

    def __init__(
        self, objective: Objective, watch: Watch, probe: Probe, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.recoveries = 0
        self.notes: list[str] = []
        """What was found and done, a sentence each time that something was not in order."""
        self._objective, self._watch, self._probe = objective, watch, probe
        self._model, self._optimizer = model, optimizer
        self.keep(0)

    def keep(self, epoch: int) -> None:
        """Remember the current weights as the ones to return to."""
        self._kept, self._kept_epoch = snapshot(self._model, self._optimizer), epoch

    def look(self, epoch: int, *, last: bool) -> None:
        """After an epoch: keep the weights that are in order, or go back to those that were."""
        if not last and (epoch % self._watch.every or self.recoveries >= _MOST):
            return
        own, strong = (
            self._probe.balanced_accuracy(self._model, attack, recoveries=self.recoveries)
            for attack in (self._objective.craft, self._objective.verify)
        )
        if strong >= self._watch.least_share * own or own - strong < _NOISE:
            self.keep(epoch)
            return
        self.notes.append(
            f"catastrophic overfitting after epoch {epoch}: balanced accuracy on {len(self._probe)} training records "
            f"is {own:.0%} under the training's own examples and {strong:.0%} under PGD-{self._watch.steps}; "
            + self._consequence(last)
        )
        if last and not self._kept_epoch:
            return
        put_back(self._model, self._optimizer, self._kept)
        self.recoveries += 1

    def _consequence(self, last: bool) -> str:
        """What follows from a look that was not in order."""
        if not last:
            return f"training went back to epoch {self._kept_epoch}, and on with a finer attack"
        tried = f", having gone back before ({self.recoveries} times)," if self.recoveries else ""
        if self._kept_epoch:
            return f"training ended{tried} with the weights of epoch {self._kept_epoch}"
        return (
            f"training ended{tried} and no look was in order, so the weights are left as they are: the model has "
            "overfitted to the training's own step and withstands little else; train it with pgd"
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a fresh lookout needs to go on: tensors by name, and the rest, JSON-able."""
        about = {"recoveries": self.recoveries, "notes": self.notes, "kept_epoch": self._kept_epoch}
        return self._kept, about

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._kept, self._kept_epoch = dict(tensors), about["kept_epoch"]
        self.recoveries, self.notes = about["recoveries"], list(about["notes"])
