"""What an attacker may do and wants: a norm, a radius, the bounds of a valid input, and the answers aimed at."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from assay.tasks.base import Criterion
from assay.tasks.classification import CLASSIFICATION

Norm = Literal["linf", "l2"]
NORMS: tuple[str, ...] = get_args(Norm)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The least and the greatest value of each input, in the units of the data; both broadcast to one record."""

    low: Tensor
    high: Tensor
    padding: bool = False
    """Whether a position (the last axis) whose every entry is 0 holds nothing, and must go on holding nothing."""
    fixed: Tensor | None = None
    """Which inputs nobody can change (bool, broadcasts to one record): a patient's age; None where all can be."""

    def __post_init__(self) -> None:
        if not bool((self.low < self.high).all()):
            raise ValueError("bounds: every lower bound must lie below its upper bound")

    def on(self, device: torch.device) -> "Bounds":
        """The same bounds where records lie, so that no step has to move them there."""
        if self.low.device == self.high.device == device:
            return self
        fixed = None if self.fixed is None else self.fixed.to(device)
        return replace(self, low=self.low.to(device), high=self.high.to(device), fixed=fixed)

    def clip(self, x: Tensor) -> Tensor:
        return torch.clamp(x, self.low.to(x), self.high.to(x))

    def confine(self, perturbed: Tensor, original: Tensor) -> Tensor:
        """The nearest valid records, (n, ...): within the bounds, and as they were where nothing may change."""
        clipped = self.clip(perturbed)
        if self.padding:
            clipped = torch.where((original != 0).any(-1, keepdim=True), clipped, original)
        return clipped if self.fixed is None else torch.where(self.fixed.to(original.device), original, clipped)

    def box(self, x: Tensor, radius: Tensor | float) -> tuple[Tensor, Tensor]:
        """Least and greatest value that each input of valid records (n, ...) can reach by changes of ``radius``."""
        return self.confine(x - radius, x), self.confine(x + radius, x)


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Every record within ``epsilon`` of the original, in ``norm``, and within the bounds.

    Attributes:
        norm: ``linf`` (greatest change of one input) or ``l2`` (Euclidean length of the change).
        epsilon: radius, in the units of the data; 0 allows no change.
        bounds: what a valid input is.
        goal: which answers the attacker wants; by default the wrong ones of a classification.
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
        """The same threat with another radius."""
        return replace(self, epsilon=epsilon)

    def capped(self, x: Tensor) -> "Threat":
        """The same set of records with a finite radius: no allowed change is longer than the box of valid records.

        Args:
            x: (n, ...) records, for their shape.
        """
        box = (self.bounds.high - self.bounds.low).to(x).expand_as(x[0])
        size = float(box.max() if self.norm == "linf" else box.norm())
        return self if self.epsilon <= size else self.at(size)

    def project(self, perturbed: Tensor, original: Tensor) -> Tensor:
        """Allowed records near those given, (n, ...): into the ball, then to what is valid, which leaves no ball.

        The nearest ones in L∞; in L2, where a bound binds, the field's usual short cut: a little less than ε is used.
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
        """Size of each record's change in the norm of this threat, (n,)."""
        change = perturbed - original
        return change.flatten(1).abs().amax(1) if self.norm == "linf" else flat_norm(change)


def radius_text(epsilon: float) -> str:
    """A radius as the field writes it: so many of 255 grey levels where that is what it is, else a plain number."""
    levels = 255 * epsilon
    if 0 < levels < 64 and abs(2 * levels - round(2 * levels)) < 1e-6 and float(f"{epsilon:.3g}") != epsilon:
        return f"{round(2 * levels) / 2:g}/255"
    return f"{epsilon:g}"


def flat_norm(x: Tensor) -> Tensor:
    """Euclidean norm of each record, (n,)."""
    return x.flatten(1).norm(dim=1)
