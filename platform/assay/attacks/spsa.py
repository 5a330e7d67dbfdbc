"""SPSA (Uesato et al. 2018, arXiv:1802.05666), L∞ and L2: PGD with a gradient estimated from finite differences."""

from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.linalg import hadamard
from torch import Tensor, nn

from assay.attacks.ascent import broadcast_to_records, direction, heading
from assay.attacks.losses import margin
from assay.attacks.survivors import SurvivorAttack
from assay.models.batches import respond
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat

_ENTRIES = 2**23
"""Greatest number of entries in one batch of queries."""
_LARGEST = 1024
"""Number of inputs up to which the directions are orthogonal over all inputs."""


@register("attack")
class SPSA(SurvivorAttack):
    """Estimates the gradient of the margin from finite differences between distant points, and ascends it.

    The points of a pair are a share of ε apart, so the estimate is the slope at the scale of the attack. It is useful
    where
    the true gradient is zero (rounding, lookup tables) or shattered. Only logits are used. Directions are rows of a
    Hadamard matrix with random signs: as many pairs as inputs measure the slope exactly; fewer pairs take turns over
    the
    steps.
    """

    follows_gradient: ClassVar[bool] = False

    name: Literal["spsa"] = "spsa"
    steps: int = Field(default=20, ge=1)
    samples: int = Field(default=64, ge=1)
    """Pairs of points per estimate; never more than an exact measurement needs."""
    reach: float = Field(default=0.5, gt=0, le=1)
    """Distance of each point of a pair from the current point, as a share of ε."""
    relative_step: float = Field(default=2.5, gt=0)
    """The first step is ``relative_step * epsilon / 2``; step sizes fall to a tenth of that."""
    momentum: float = Field(default=0.75, ge=0)
    """Share of the last direction that enters the next one; it averages estimates over steps."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", samples="x", reach="reach", relative_step="step", momentum="momentum")

    @torch.no_grad()
    def seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        perturbed = x.clone()
        rows = torch.arange(len(x), device=x.device)
        current, drift = x.clone(), None
        lead = margin(respond(model, x), y)
        for step in range(self.steps):
            slope = self._slope(model, current, x[rows], y[rows], threat, draw.of(rows), step)
            drift = heading(slope, drift, self.momentum)
            size = self.relative_step * threat.epsilon / 2 * 0.1 ** (step / max(1, self.steps - 1))
            current = threat.project(current + size * direction(drift, threat), x[rows])
            logits = respond(model, current)
            now, fooled = margin(logits, y[rows]), threat.goal(logits, y[rows])
            better = (now > lead[rows]) | fooled
            perturbed[rows[better]], lead[rows[better]] = current[better], now[better]
            open_ = ~fooled
            rows, current, drift = rows[open_], current[open_], drift[open_]
            if not len(rows):
                break
        return perturbed

    def _slope(  # noqa: PLR0917
        self, model: nn.Module, at: Tensor, x: Tensor, y: Tensor, threat: Threat, draw: Draw, step: int
    ) -> Tensor:
        """Returns the estimated gradient of the margin, (m, ...), from differences along random directions."""
        far = self.reach * threat.epsilon
        if threat.norm == "l2":
            far /= at[0].numel() ** 0.5
        signs = draw.uniform(at).sign()
        ways = _directions(at[0].numel(), self.samples, step).to(at).view(-1, 1, *at.shape[1:])
        total = torch.zeros_like(at)
        # As many pairs at once as fit into memory.
        for part in ways.split(max(1, _ENTRIES // at.numel())):
            total += _differences(model, at, x, y, threat, far * signs * part)
        return total


def _differences(  # noqa: PLR0917
    model: nn.Module, at: Tensor, x: Tensor, y: Tensor, threat: Threat, steps: Tensor
) -> Tensor:
    """Returns the sum over pairs of the change of the margin times the step, divided by the squared length of the step.

    Args:
        steps: (pairs, m, ...) from each record to one end of a pair; the other end lies opposite.
    """
    many = [len(steps), *[1] * (x.dim() - 1)]
    around, labels = x.repeat(many), y.repeat(len(steps))
    ahead, behind = (threat.bounds.confine((at + sign * steps).flatten(0, 1), around) for sign in (1, -1))
    rises = _margins(respond(model, torch.cat([ahead, behind])), labels.repeat(2))
    change = rises[: len(ahead)] - rises[len(ahead) :]
    gone = ahead - behind
    slopes = broadcast_to_records(change / gone.square().flatten(1).sum(1).clamp_min(1e-12), gone) * gone
    return slopes.view(steps.shape).sum(0)


def _margins(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the margin of each record, (n,); a value above all others where the model returns NaN or infinity."""
    margins, known = margin(logits, y), logits.isfinite().all(1)
    highest = margins[known].amax() if bool(known.any()) else margins.new_zeros(())
    return torch.where(known, margins, highest.clamp_min(0) + 1)


@cache
def _hadamard(size: int) -> Tensor:
    """Returns a Hadamard matrix, (size, size) with entries ±1 and orthogonal rows; ``size`` is a power of 2."""
    return torch.from_numpy(hadamard(size, dtype=np.float32))


def _directions(inputs: int, most: int, step: int) -> Tensor:
    """Returns at most ``most`` nearly orthogonal directions with entries ±1, (k, inputs); other ones at each step.

    All rows of a Hadamard matrix, cut to ``inputs`` columns, measure every input separately.
    """
    # With more inputs the matrix of a block is repeated: the random signs distinguish the blocks.
    block = min(1 << max(0, inputs - 1).bit_length(), _LARGEST)
    rows = torch.arange(step * most, (step + 1) * most) % block if most < block else torch.arange(block)
    return _hadamard(block)[rows].repeat(1, -(-inputs // block))[:, :inputs]
