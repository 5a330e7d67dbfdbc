"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), L∞ and L2."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.losses import LOSSES, LossName, misclassified
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat, flat_norm


@register("attack")
class PGD(Attack):
    """Signed (L∞) or normalised (L2) gradient steps, each projected back. A record stays where it was first fooled."""

    name: Literal["pgd"] = "pgd"
    steps: int = Field(default=20, ge=1)
    loss: LossName = "cross_entropy"
    relative_step: float = Field(default=2.5, gt=0)
    """Step size is ``relative_step * epsilon / steps``."""
    restarts: int = Field(default=1, ge=1)
    """The first start is the record itself, later ones are random."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        found, rows = x.clone(), torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            start = x if restart == 0 else random_start(x, threat, draw)
            tried, fooled = ascend(
                model,
                x[rows],
                y[rows],
                threat,
                start=start[rows],
                steps=self.steps,
                step_size=self.relative_step * threat.epsilon / self.steps,
                loss=self.loss,
                keep_fooled=True,
            )
            found[rows] = tried
            if restart + 1 < self.restarts:
                with torch.no_grad():
                    rows = rows[~(fooled | misclassified(model(tried), y[rows]))]
                if not len(rows):
                    break
        return found


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    start: Tensor,
    steps: int,
    step_size: float,
    loss: LossName = "cross_entropy",
    keep_fooled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Climb the loss inside the threat model, from ``start``.

    With ``keep_fooled`` a record that is seen misclassified stays there, and costs nothing from then on.

    Returns:
        The last iterate of each record, or with ``keep_fooled`` the first that was misclassified, (n, ...); and
        which records were seen misclassified on the way, (n,).
    """
    reached, fooled = start.detach().clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    current = reached.clone()
    for _ in range(steps):
        point = current.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = model(point)
            (gradient,) = torch.autograd.grad(LOSSES[loss](logits, y).sum(), point)
        fresh = misclassified(logits.detach(), y)
        fooled[rows[fresh]] = True
        if keep_fooled and bool(fresh.any()):
            reached[rows[fresh]] = current[fresh]
            open_ = ~fresh
            rows, current, x, y, gradient = (kept[open_] for kept in (rows, current, x, y, gradient))
            if not len(rows):
                return reached, fooled
        current = threat.project(current + step_size * direction(gradient.nan_to_num(), threat), x)
    reached[rows] = current
    return reached, fooled


def direction(gradient: Tensor, threat: Threat) -> Tensor:
    """The steepest step of length 1 in the norm of the threat."""
    if threat.norm == "linf":
        return gradient.sign()
    # First by the largest entry: the squares of a confident model's gradient would vanish in float32.
    scaled = gradient / _wide(gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient)
    return scaled / _wide(flat_norm(scaled).clamp_min(1e-12), gradient)


def random_start(x: Tensor, threat: Threat, draw: Draw) -> Tensor:
    """A random record inside the threat model: uniform in L∞; in L2 a random direction at a uniform share of ε."""
    if threat.norm == "linf":
        return threat.project(x + threat.epsilon * draw.uniform(x), x)
    way = draw.normal(x)
    share = draw.uniform(x[:, :1].flatten(1)[:, :1]).abs()
    return threat.project(x + threat.epsilon * _wide(share[:, 0], x) * way / _wide(flat_norm(way), x), x)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """One value a record, broadcastable to the records."""
    return values.view(-1, *[1] * (like.dim() - 1))
