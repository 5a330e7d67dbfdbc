"""A moving average of the weights, which training ends with (De et al. 2022, arXiv:2204.13650)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Averaging:
    """Follows the weights of a model from step to step; training itself goes on with the last ones.

    Step t, from 1, has decay min(``decay``, (1 + t) / (10 + t)). Numbers that a layer keeps beside its weights, such as
    the statistics of batch norm, are averaged likewise, and its counts are those of the last step.
    """

    def __init__(self, decay: float, model: nn.Module) -> None:
        self._decay, self._model = decay, model
        self.begin()

    def begin(self) -> None:
        """Forget what was, and start from the weights as they are now."""
        self._steps = 0
        self._average = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}

    def follow(self) -> None:
        """After a step of training."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, tensor in self._model.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self._average[name].copy_(tensor)

    def swap(self) -> dict[str, Tensor]:
        """Put the average into the model; what the model held before."""
        own = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        return own

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on: tensors by name, and the rest, JSON-able."""
        return self._average, {"steps": self._steps}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._average = {name: tensor.to(self._average[name]) for name, tensor in tensors.items()}
        self._steps = about["steps"]
