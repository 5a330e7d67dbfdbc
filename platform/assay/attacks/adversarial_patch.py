"""Adversarial patch (Brown et al. 2017, arXiv:1712.09665): a sticker that fools the model at any position and angle.

It is a physical threat model of its own: the same patch replaces a part of every record, at a position that the
attacker does not choose. So it is not an attack within a radius, and is not judged as one.
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
    """Position, size, angle and brightness of the patch on each of n records."""

    middle: Tensor
    """(n, 2) row and column of its middle, counted from the edge; a signal is one row."""
    scale: Tensor
    """(n,) factor on the side of the patch."""
    angle: Tensor
    """(n,) rotation in radians; 0 on a signal."""
    brightness: Tensor
    """(n,) value added to the patch, as a share of the range of valid values."""

    def of(self, rows: Tensor) -> "Places":
        """Selects some of the records.

        Args:
            rows: (k,) positions or (n,) bool.

        Returns:
            Their places.
        """
        return Places(
            middle=self.middle[rows],
            scale=self.scale[rows],
            angle=self.angle[rows],
            brightness=self.brightness[rows],
        )


class AdversarialPatch(Settings):
    """One patch for many records, optimised over random positions, sizes, angles and brightness.

    The patch is a square of an image, or a segment of a signal.
    """

    share: float = Field(default=0.05, gt=0, le=0.5)
    """Share of the record that the patch covers at scale 1."""
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=64, ge=1)
    """Records per step."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Step of Adam, as a share of the range of valid values."""
    scale: float = Field(default=0.1, ge=0, lt=1)
    """Greatest relative change of the size of the patch."""
    rotation: float = Field(default=20.0, ge=0, le=180)
    """Greatest rotation in degrees, in both directions; none for a signal."""
    brightness: float = Field(default=0.1, ge=0, le=1)
    """Greatest change of brightness, as a share of the range of valid values."""

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
        """Optimises a patch that makes the model err.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, channels, height, width) images or (n, channels, samples) signals to optimise on.
            y: (n,) their labels.
            bounds: of a valid record.
            target: the class that the model should answer; None for any wrong class.
            generator: of the start, the batches and the places.

        Returns:
            The patch, (channels, height, width).
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
                # The loss saturates where a record is fooled, so that the others get the larger gradients.
                loss = F.softplus(-lead).nan_to_num()
            unit.grad = input_gradient(loss, point).nan_to_num()
            optimizer.step()
            unit.clamp_(0, 1)
        return low + span * unit

    def noise(self, x: Tensor, bounds: Bounds, generator: np.random.Generator) -> Tensor:
        """Draws a patch of the same shape from uniform noise within the range of valid values, as a control.

        Args:
            x: (n, ...) records, for their shape.
            bounds: of a valid record.
            generator: of the noise.

        Returns:
            The patch, (channels, height, width).
        """
        low, span = _range(x, bounds)
        return low + span * self._random(x, generator)

    def places(self, x: Tensor, generator: np.random.Generator) -> Places:
        """Draws the places of the patch, one for each record. Before rotation and scaling the patch lies within the
        record.

        Args:
            x: (n, ...) records, for their shape.
            generator: of the draws.

        Returns:
            The places of n records.
        """
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
    """Returns records as (n, channels, height, width); a signal has height 1.

    Args:
        x: (n, channels, height, width) images or (n, channels, samples) signals.

    Returns:
        A view of ``x``.
    """
    return x if x.dim() == 4 else x.unsqueeze(2)


def stuck(x: Tensor, patch: Tensor, places: Places, bounds: Bounds) -> Tensor:
    """Puts a patch on records; differentiable in the patch. Values are clipped to the bounds, and fixed inputs stay.

    Args:
        x: (n, ...) records.
        patch: (channels, height, width).
        places: of the patch on each record.
        bounds: of a valid record.

    Returns:
        (n, ...) records with the patch.
    """
    records = plane(x)
    height, width = records.shape[2:]
    tall, wide = patch.shape[1:]
    down = (torch.arange(height, device=x.device) + 0.5 - places.middle[:, :1])[:, :, None]
    across = (torch.arange(width, device=x.device) + 0.5 - places.middle[:, 1:])[:, None, :]
    cosine, sine, scale = (v.view(-1, 1, 1) for v in (places.angle.cos(), places.angle.sin(), places.scale))
    # Coordinates of each input on the patch, from -1 at one edge to 1 at the other.
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
    """Returns the least valid value of each channel, and the width of its range, (channels, 1, 1) each."""
    low, high = (plane(bound.to(x).expand_as(x[:1]))[0] for bound in (bounds.low, bounds.high))
    least = low.amin((1, 2), keepdim=True)
    return least, high.amax((1, 2), keepdim=True) - least
