"""Expectation over transformation (EOT; Athalye et al. 2018, arXiv:1802.00420), for models that answer at random."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Expectation(nn.Module):
    """What a randomised model answers on average: the logarithm of its mean probabilities over ``samples`` passes.

    Probabilities are averaged, for the mean of logits is ruled by the pass with the largest ones; the logarithm is
    taken of the sum as a whole, so no loss saturates where single passes do.

    Args:
        model: from records to logits; draws anew at each pass.
        samples: passes; at least 1. One pass is kept in memory at a time: the gradient repeats each with the random
            numbers that it had, at twice the forward cost.
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, given: {samples}")
        super().__init__()
        self.model, self.samples = model, samples

    def forward(self, x: Tensor) -> Tensor:
        total = self._once(x)
        for _ in range(self.samples - 1):
            total = torch.logaddexp(total, self._once(x))
        return total - math.log(self.samples)

    def _once(self, x: Tensor) -> Tensor:
        kept = torch.is_grad_enabled() and x.requires_grad
        return F.log_softmax(checkpoint(self.model, x, use_reentrant=False) if kept else self.model(x), dim=1)
