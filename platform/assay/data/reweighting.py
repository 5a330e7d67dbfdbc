"""Defences that change the weights of records in the training loss."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.data.treatment import Treatment
from assay.registry import register

_HALVINGS = 40


@register("treatment")
class RobustReweighting(Treatment):
    """Distributionally robust training that leaves outliers out: DORO (Zhai et al. 2021, arXiv:2106.06142).

    Plain distributionally robust training minimises the loss of the worst population near the data. Poisoned records
    have great losses, so it learns them above all. Here the greatest losses of each batch get the weight 0, and the
    worst population is chosen among the rest: any that makes up at least the fraction ``alpha`` of them (``cvar``), or
    lies in the corresponding ball of the χ² divergence (``chi_square``).
    """

    defends: ClassVar[bool] = True
    name: Literal["robust_reweighting"] = "robust_reweighting"
    outliers: float = Field(default=0.15, ge=0, lt=1)
    """Fraction of each batch with weight 0; at least the fraction that is poisoned."""
    alpha: float = Field(default=0.5, gt=0, le=1)
    """Least fraction of the rest that the worst population makes up; with 1 all of the rest have equal weights."""
    divergence: Literal["cvar", "chi_square"] = "chi_square"

    @property
    def per_record(self) -> bool:
        return False

    def weigh(self, losses: Tensor) -> Tensor:
        n = len(losses)
        order = losses.argsort(descending=True, stable=True)
        ranked = losses[order].double()
        if self.divergence == "cvar":
            rest = (1 - self.outliers) * n
            weights = _within(ranked, self.outliers * n, self.outliers * n + self.alpha * rest) / (self.alpha * rest)
        else:
            kept = _within(ranked, self.outliers * n, n)
            weights = kept * chi_square_weights(ranked, kept, self.alpha) / kept.sum()
        scaled = torch.empty_like(losses)
        scaled[order] = (n * weights).to(losses)
        return scaled


def chi_square_weights(losses: Tensor, mass: Tensor, alpha: float) -> Tensor:
    """Returns the densities that maximise the weighted mean of losses within a ball of the χ² divergence.

    They are (ℓ − η)₊ divided by its mean, with the η at which their mean square is 1 + (1/α − 1)² (Duchi & Namkoong
    2018, arXiv:1810.08750).

    Args:
        losses: (n,) float64.
        mass: (n,) weight of each record before.
        alpha: in (0, 1]; 1 is a ball that holds the data alone.

    Returns:
        (n,) densities with mean 1.
    """
    radius = 1 / alpha - 1
    share = mass / mass.sum()
    # Relative to the greatest loss with mass, so that a threshold just below it is not rounded to it.
    below = losses - losses[mass > 0].max()
    spread = ((below - (share * below).sum()).square() * share).sum().sqrt()
    if radius == 0 or spread == 0:
        return torch.ones_like(losses)
    low, high = float(below[mass > 0].min() - spread / radius), 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        density = _density(below, share, middle)
        if float((density.square() * share).sum()) < 1 + radius**2:
            low = middle
        else:
            high = middle
    return _density(below, share, low)


def _density(losses: Tensor, share: Tensor, threshold: float) -> Tensor:
    above = (losses - threshold).clamp_min(0)
    return above / (above * share).sum()


def _within(ranked: Tensor, start: float, end: float) -> Tensor:
    """Returns (n,) how much of each of n ranks, each of length 1, lies between two points."""
    return torch.arange(len(ranked) + 1).to(ranked).clamp(start, end).diff()
