"""Threat models: the norm, the radius, the bounds of a valid input, and the goal of the attacker."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from assay.radii import radius_text  # noqa: F401  (where most modules look for it)
from assay.tasks.base import Criterion
from assay.tasks.classification import CLASSIFICATION

Norm = Literal["linf", "l2"]
NORMS: tuple[str, ...] = get_args(Norm)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Least and greatest value of each input, in the units of the data; both broadcast to one record."""

    low: Tensor
    high: Tensor
    padding: bool = False
    """Whether a position whose entries along the last axis are all 0 is padding, which may not change."""
    fixed: Tensor | None = None
    """Inputs that no attacker can change, such as age (bool, broadcasts to one record); None where all can change."""

    def __post_init__(self) -> None:
        if not bool((self.low < self.high).all()):
            raise ValueError("bounds: every lower bound must lie below its upper bound")

    def on(self, device: torch.device) -> "Bounds":
        """Returns the same bounds on another device.

        Args:
            device: of the records.

        Returns:
            The bounds with tensors on ``device``.
        """
        if self.low.device == self.high.device == device:
            return self
        fixed = None if self.fixed is None else self.fixed.to(device)
        return replace(self, low=self.low.to(device), high=self.high.to(device), fixed=fixed)

    def clip(self, x: Tensor) -> Tensor:
        """Clips inputs to the bounds.

        Args:
            x: (n, ...) records.

        Returns:
            (n, ...) clipped records.
        """
        return torch.clamp(x, self.low.to(x), self.high.to(x))

    def confine(self, perturbed: Tensor, original: Tensor) -> Tensor:
        """Returns the nearest valid records: within the bounds, and unchanged where padding or fixed inputs are.

        Args:
            perturbed: (n, ...) changed records.
            original: (n, ...) records before the change.

        Returns:
            (n, ...) valid records.
        """
        clipped = self.clip(perturbed)
        if self.padding:
            clipped = torch.where((original != 0).any(-1, keepdim=True), clipped, original)
        return clipped if self.fixed is None else torch.where(self.fixed.to(original.device), original, clipped)

    def box(self, x: Tensor, radius: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns the least and the greatest value of each input under changes of at most ``radius``.

        Args:
            x: (n, ...) valid records.
            radius: greatest change of one input, in the units of the data.

        Returns:
            Two tensors, (n, ...) each.
        """
        return self.confine(x - radius, x), self.confine(x + radius, x)


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Threat model: all records within ``epsilon`` of the original, in ``norm``, and within the bounds.

    Attributes:
        norm: ``linf`` (greatest change of one input) or ``l2`` (Euclidean length of the change).
        epsilon: radius, in the units of the data; 0 allows no change.
        bounds: of a valid input.
        goal: the answers that count as success; by default the wrong ones of a classification.
    """

    norm: Norm
    epsilon: float
    bounds: Bounds
    goal: Criterion = CLASSIFICATION.criterion

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm {self.norm!r} is unknown; allowed: linf, l2")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be a number of at least 0, given: {self.epsilon}")

    def at(self, epsilon: float) -> "Threat":
        """Returns the same threat model with another radius.

        Args:
            epsilon: radius, in the units of the data.

        Returns:
            The threat model.

        Raises:
            ValueError: ``epsilon`` is negative or NaN.
        """
        return replace(self, epsilon=epsilon)

    def capped(self, x: Tensor) -> "Threat":
        """Returns the same threat model with a finite radius: at most the size of the box of valid records.

        Args:
            x: (n, ...) records, for their shape.

        Returns:
            The threat model; it allows the same records.
        """
        box = (self.bounds.high - self.bounds.low).to(x).expand_as(x[0])
        size = float(box.max() if self.norm == "linf" else box.norm())
        return self if self.epsilon <= size else self.at(size)

    def project(self, perturbed: Tensor, original: Tensor) -> Tensor:
        """Projects records into the threat model: into the ball, then into the bounds, which stays within the ball.

        In L∞ the result is the nearest allowed record. In L2, where a bound is active, it is the usual approximation:
        the
        change is a little shorter than ε.

        Args:
            perturbed: (n, ...) changed records.
            original: (n, ...) valid records.

        Returns:
            (n, ...) allowed records.
        """
        change = perturbed - original
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            length = flat_norm(change)
            factor = torch.where(length > self.epsilon, self.epsilon / length.clamp_min(1e-12), 1.0)
            change = change * factor.view(-1, *[1] * (change.dim() - 1))
        return self.bounds.confine(original + change, original)

    def distance(self, perturbed: Tensor, original: Tensor) -> Tensor:
        """Returns the size of each record's change in the norm of this threat.

        Args:
            perturbed: (n, ...) changed records.
            original: (n, ...) records before the change.

        Returns:
            (n,) sizes, in the units of the data.
        """
        change = perturbed - original
        return change.flatten(1).abs().amax(1) if self.norm == "linf" else flat_norm(change)


def flat_norm(x: Tensor) -> Tensor:
    """Returns the Euclidean norm of each record.

    Args:
        x: (n, ...) records.

    Returns:
        (n,) norms.
    """
    return x.flatten(1).norm(dim=1)
