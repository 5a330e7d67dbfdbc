"""Adversarial patch (Brown et al. 2017, arXiv:1712.09665): a sticker that fools wherever, and however, it lies.

A threat model of its own, in the physical world: a part of the record is written anew, the same for every record, at a
place that the attacker does not choose. So it is no attack within a radius, and is not judged as one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.gradients import input_gradient
from assay.attacks.losses import margin
from assay.models.batches import at_once
from assay.registry import Settings
from assay.threats import Bounds


@dataclass(frozen=True, kw_only=True)
class Places:
    """How a patch lies on each of n records."""

    middle: Tensor
    """(n, 2) row and column of its middle, counted from the edge; a signal is one row."""
    scale: Tensor
    """(n,) its side, in sides of the patch."""
    angle: Tensor
    """(n,) radians by which it is turned; 0 on a signal."""
    brightness: Tensor
    """(n,) what is added to its values, as a share of the range of valid ones."""

    def of(self, rows: Tensor) -> "Places":
        """Those of some of the records."""
        return Places(
            middle=self.middle[rows],
            scale=self.scale[rows],
            angle=self.angle[rows],
            brightness=self.brightness[rows],
        )


class AdversarialPatch(Settings):
    """One patch for many records, optimised over places, sizes, angles and brightness that are drawn at every step.

    Of an image it is a square, of a signal a segment of samples.
    """

    share: float = Field(default=0.05, gt=0, le=0.5)
    """Share of the record that it covers at scale 1."""
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=64, ge=1)
    """Records on which each step lays the patch."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Step of Adam, as a share of the range of valid values."""
    scale: float = Field(default=0.1, ge=0, lt=1)
    """By what share the patch may be larger or smaller."""
    rotation: float = Field(default=20.0, ge=0, le=180)
    """Degrees by which it may be turned either way; a signal's is not."""
    brightness: float = Field(default=0.1, ge=0, le=1)
    """Share of the range of valid values by which it may be lighter or darker."""

    def optimised(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        bounds: Bounds,
        *,
        target: int | None,
        generator: np.random.Generator,
    ) -> Tensor:
        """A patch, (channels, height, width), that makes the model err.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, channels, height, width) images or (n, channels, samples) signals to learn from.
            y: (n,) their labels.
            bounds: of a valid record.
            target: the class that is to be answered; None for any wrong one.
            generator: of the start, of batches and of places.
        """
        low, span = _range(x, bounds)
        wanted = None if target is None else torch.full_like(y, target)
        unit = self._random(x, generator)
        optimizer = torch.optim.Adam([unit], lr=self.learning_rate)
        most = min(self.batch, len(x), at_once(tuple(x.shape[1:])))
        for _ in range(self.steps):
            rows = torch.from_numpy(generator.choice(len(x), most, replace=False)).to(x.device)
            places = self.places(x[rows], generator)
            point = unit.detach().requires_grad_(True)
            with torch.enable_grad():
                logits = model(stuck(x[rows], low + span * point, places, bounds))
                lead = margin(logits, y[rows]) if wanted is None else -margin(logits, wanted[rows])
                # Falls off where a record is fooled, so that the others are worked on.
                loss = F.softplus(-lead).nan_to_num()
            unit.grad = input_gradient(loss, point).nan_to_num()
            optimizer.step()
            unit.clamp_(0, 1)
        return low + span * unit

    def noise(self, x: Tensor, bounds: Bounds, generator: np.random.Generator) -> Tensor:
        """A patch of the same shape that nobody optimised: uniform within the range of valid values."""
        low, span = _range(x, bounds)
        return low + span * self._random(x, generator)

    def places(self, x: Tensor, generator: np.random.Generator) -> Places:
        """Where and how the patch lies on each record; it never leaves the record by more than its turn and size."""
        _, height, width = plane(x).shape[1:]
        tall, wide = self._sides(height, width)
        room = np.array([height - tall, width - wide])
        middle = generator.random((len(x), 2)) * room + np.array([tall, wide]) / 2
        turn = 0.0 if height == 1 else np.deg2rad(self.rotation)
        drawn = {
            "middle": middle,
            "scale": 1 + self.scale * generator.uniform(-1, 1, len(x)),
            "angle": turn * generator.uniform(-1, 1, len(x)),
            "brightness": self.brightness * generator.uniform(-1, 1, len(x)),
        }
        return Places(**{name: torch.from_numpy(values).to(x) for name, values in drawn.items()})

    def _random(self, x: Tensor, generator: np.random.Generator) -> Tensor:
        channels, height, width = plane(x).shape[1:]
        return torch.from_numpy(generator.random((channels, *self._sides(height, width)))).to(x)

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        if height == 1:
            return 1, max(1, round(self.share * width))
        side = max(1, round((self.share * height * width) ** 0.5))
        return min(side, height), min(side, width)


def plane(x: Tensor) -> Tensor:
    """Records as (n, channels, height, width); a signal is one row."""
    return x if x.dim() == 4 else x.unsqueeze(2)


def stuck(x: Tensor, patch: Tensor, places: Places, bounds: Bounds) -> Tensor:
    """The records (n, ...) under a patch (channels, height, width); differentiable in the patch.

    What leaves the bounds is clipped, and inputs that nobody can change show through.
    """
    records = plane(x)
    height, width = records.shape[2:]
    tall, wide = patch.shape[1:]
    down = (torch.arange(height, device=x.device) + 0.5 - places.middle[:, :1])[:, :, None]
    across = (torch.arange(width, device=x.device) + 0.5 - places.middle[:, 1:])[:, None, :]
    cosine, sine, scale = (v.view(-1, 1, 1) for v in (places.angle.cos(), places.angle.sin(), places.scale))
    # Where each input lies on the patch, from -1 at one edge to 1 at the other.
    u = (cosine * across + sine * down) / (scale * wide / 2)
    v = (cosine * down - sine * across) / (scale * tall / 2)
    covered = (u >= -1) & (u < 1) & (v >= -1) & (v < 1)
    grid = torch.stack([u, v], -1).to(patch)
    seen = F.grid_sample(patch.expand(len(x), -1, -1, -1), grid, padding_mode="border", align_corners=False)
    span = (bounds.high - bounds.low).to(x)
    lit = seen.view_as(x) + places.brightness.view(-1, *[1] * (x.dim() - 1)) * span
    hidden = covered.view(len(x), 1, *x.shape[2:])
    return bounds.confine(torch.where(hidden, lit, x), x)


def _range(x: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Least valid value of each channel, and how far the greatest lies above it, (channels, 1, 1) each."""
    low, high = (plane(bound.to(x).expand_as(x[:1]))[0] for bound in (bounds.low, bounds.high))
    least = low.amin((1, 2), keepdim=True)
    return least, high.amax((1, 2), keepdim=True) - least
