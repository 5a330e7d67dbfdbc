"""A trainer of one weight, for tests that say themselves what happens in an epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from assay.training.hooks.base import Hook
from assay.training.snapshots import put_back


class StandIn:
    """What hooks use of a ``Trainer``."""

    def __init__(self, model: nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None) -> None:
        if model is None:
            model = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(model.weight)
        self.model = model
        self.optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1.0)
        self.epoch = self.rollbacks = 0
        self.stopped = False

    @property
    def weight(self) -> float:
        """The first weight."""
        return float(next(self.model.parameters()).detach().flatten()[0])

    def roll_back(self, tensors: Mapping[str, Tensor], *, by: Hook) -> None:
        put_back(self.model, self.optimizer, tensors)
        self.rollbacks += 1

    def stop(self) -> None:
        self.stopped = True
