"""Moving average of the weights, with which training ends (De et al. 2022, arXiv:2204.13650)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from assay.training.hooks.base import Hook

if TYPE_CHECKING:
    from assay.training.loop import Trainer


class Averaging(Hook):
    """Averages the weights over steps. Training continues with its own weights; the average replaces them at the end.

    Step t, from 1, has decay min(``decay``, (1 + t) / (10 + t)). Floating-point buffers, such as the statistics of
    batch norm, are averaged in the same way; integer buffers are those of the last step. The average reads weights that
    the private update has released, so it costs no ε. It starts again where something else than a step has replaced the
    weights.

    Args:
        decay: greatest share of the old average that remains after a step; in (0, 1).
    """

    name = "averaging"

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._average: dict[str, Tensor] = {}

    def begin(self, trainer: "Trainer") -> None:
        self._steps = 0
        self._average = _copied(trainer.model)

    def after_step(self, trainer: "Trainer") -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, tensor in trainer.model.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self._average[name].copy_(tensor)

    def after_epoch(self, trainer: "Trainer", *, last: bool) -> None:
        if last:
            self.swap(trainer.model)

    def swap(self, model: nn.Module) -> dict[str, Tensor]:
        """Puts the average into a model, and returns the weights that the model held before.

        Args:
            model: the one whose weights are averaged; changed in place.

        Returns:
            A state dict with the earlier weights.
        """
        previous = _copied(model)
        model.load_state_dict(self._average)
        return previous

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._average, {"steps": self._steps}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._average = {name: tensor.to(self._average[name]) for name, tensor in tensors.items()}
        self._steps = about["steps"]


def _copied(model: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the weights and buffers of a model."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
