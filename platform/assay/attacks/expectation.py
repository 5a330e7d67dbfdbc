"""Expectation over transformation (EOT; Athalye et al. 2018, arXiv:1802.00420), for randomised models."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Expectation(nn.Module):
    """Mean output of a randomised model: the logarithm of its mean probabilities over ``samples`` passes.

    Probabilities are averaged because a mean of logits is dominated by the pass with the largest ones. The logarithm is
    taken of the sum, so the loss does not saturate where single passes do.

    Args:
        model: from records to logits; draws new random numbers at each pass.
        samples: number of passes; at least 1. Only one pass is kept in memory: the backward pass repeats each forward
            pass with the same random numbers, at twice the forward cost.

    Raises:
        ValueError: ``samples`` is below 1.
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
