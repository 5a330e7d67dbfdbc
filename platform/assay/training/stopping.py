"""Early stopping on robust validation accuracy (Rice et al. 2020, arXiv:2002.11569)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from assay.attacks.ascent import ascend
from assay.objectives.base import Batch
from assay.recipes import EarlyStopping
from assay.threats import Threat
from assay.training.probe import Probe


class Stopping:
    """Remembers the weights that withstood PGD best on records that training does not see.

    All workers see the same figures and take the same decision.
    """

    def __init__(self, settings: EarlyStopping, probe: Probe, model: nn.Module) -> None:
        self.accuracies: list[float] = []
        """Robust validation accuracy at each look."""
        self._settings, self._probe, self._model = settings, probe, model
        self._kept: dict[str, Tensor] = {}

    @property
    def done(self) -> bool:
        """Whether the last ``patience`` looks brought no improvement."""
        return bool(self.accuracies) and len(self.accuracies) - 1 - self._best >= self._settings.patience

    def look(self, epoch: int, *, last: bool) -> None:
        """After an epoch; of equals the first is kept. What is done, or ends here, ends with the best weights."""
        if epoch % self._settings.every == 0 or last:
            self.accuracies.append(self._probe.accuracy(self._model, self._attacked))
            if self._best == len(self.accuracies) - 1:
                self._kept = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
        if self.done or last:
            self._model.load_state_dict(self._kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on: tensors by name, and the rest, JSON-able."""
        return self._kept, {"accuracies": self.accuracies}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._kept, self.accuracies = dict(tensors), list(about["accuracies"])

    @property
    def _best(self) -> int:
        """The look that was best."""
        return self.accuracies.index(max(self.accuracies))

    def _attacked(self, model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        epsilon, steps = self._settings.epsilon, self._settings.steps
        if epsilon == 0:
            return x
        threat = Threat(norm=self._settings.norm, epsilon=epsilon, bounds=bounds)
        size = self._settings.relative_step * epsilon / steps
        # The margin sees through a network whose cross-entropy has gone flat: that must not look like robustness.
        found, _ = ascend(
            model, x, batch.y, threat, start=x, steps=steps, step_size=size, loss="margin", keep_fooled=True
        )
        return found
