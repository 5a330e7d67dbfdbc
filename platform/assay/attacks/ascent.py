"""Gradient ascent inside a threat model: what PGD, its curves and adversarial training are made of."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.gradients import input_gradient
from assay.attacks.losses import LOSSES, LossName
from assay.seeds import Draw
from assay.threats import Threat, flat_norm

Loss = LossName | Callable[[Tensor, Tensor], Tensor]
"""A name, or a function of logits (n, classes) and labels (n,), one value a record."""


class Slope(NamedTuple):
    """The loss of each record, and which way it rises."""

    logits: Tensor
    """(n, classes)."""
    losses: Tensor
    """(n,)."""
    gradient: Tensor
    """(n, ...), 0 where it is no number."""


def slope(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Slope:
    """One pass forward and one back. Asked for the records' gradient alone, autograd forms none of the weights."""
    climbed = LOSSES[loss] if isinstance(loss, str) else loss
    point = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(point)
        losses = climbed(logits, y)
    gradient = input_gradient(losses, point)
    return Slope(logits.detach(), losses.detach(), gradient.nan_to_num())


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    start: Tensor,
    steps: int,
    step_size: float,
    loss: Loss = "cross_entropy",
    keep_fooled: bool = False,
    momentum: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Climb the loss inside the threat model, from ``start``.

    With ``keep_fooled`` a record that is seen to reach the threat's goal stays there, and costs nothing from then on.

    Args:
        loss: with ``keep_fooled`` a function is given those records alone that are still climbing.
        momentum: share of the last direction that enters the next one (see ``heading``).

    Returns:
        The last iterate of each record, or with ``keep_fooled`` the first that reached the goal, (n, ...); and
        which records were seen to reach it on the way, (n,).
    """
    reached, fooled = start.detach().clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    current, drift = reached.clone(), None
    for _ in range(steps):
        logits, _, gradient = slope(model, current, y, loss)
        fresh = threat.goal(logits, y)
        fooled[rows[fresh]] = True
        if keep_fooled and bool(fresh.any()):
            reached[rows[fresh]] = current[fresh]
            open_ = ~fresh
            rows, current, x, y, gradient = (kept[open_] for kept in (rows, current, x, y, gradient))
            drift = None if drift is None else drift[open_]
            if not len(rows):
                return reached, fooled
        if momentum:
            gradient = drift = heading(gradient, drift, momentum)
        current = threat.project(current + step_size * direction(gradient, threat), x)
    reached[rows] = current
    return reached, fooled


def summit(  # noqa: PLR0917
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    start: Tensor,
    sizes: Sequence[float],
    loss: Loss,
    momentum: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Climb the loss to the end, whether a record is fooled on the way or not.

    For networks that answer at random, where one lucky pass is no proof, or that are not the ones to be fooled.

    Args:
        sizes: of the steps.

    Returns:
        Of each record the iterate of the highest loss, (n, ...), and that loss, (n,): infinite where the network
        answered with no finite number.
    """
    current, drift = start.detach().clone(), None
    best, height = current.clone(), torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
    for size in (*sizes, None):
        logits, losses, gradient = slope(model, current, y, loss)
        losses = losses.masked_fill(~logits.isfinite().all(1), math.inf).to(height)
        better = losses > height
        best[better], height[better] = current[better], losses[better]
        if size is not None:
            if momentum:
                gradient = drift = heading(gradient, drift, momentum)
            current = threat.project(current + size * direction(gradient, threat), x)
    return best, height


def heading(gradient: Tensor, drift: Tensor | None, momentum: float) -> Tensor:
    """The gradient, of length 1 in L1, plus a share of the heading before (Dong et al. 2018, arXiv:1710.06081)."""
    own = gradient / broadcast_to_records(
        gradient.flatten(1).abs().sum(1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient
    )
    return own if drift is None else momentum * drift + own


def direction(gradient: Tensor, threat: Threat) -> Tensor:
    """The steepest step of length 1 in the norm of the threat, of which nothing is spent on what cannot change."""
    if threat.bounds.fixed is not None:
        gradient = gradient.masked_fill(threat.bounds.fixed.to(gradient.device), 0.0)
    if threat.norm == "linf":
        return gradient.sign()
    # First by the largest entry: the squares of a confident model's gradient would vanish in float32.
    scaled = gradient / broadcast_to_records(
        gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient
    )
    return scaled / broadcast_to_records(flat_norm(scaled).clamp_min(1e-12), gradient)


def random_start(x: Tensor, threat: Threat, draw: Draw) -> Tensor:
    """A random record inside the threat model: uniform in L∞; in L2 a random direction at a uniform share of ε."""
    if threat.norm == "linf":
        return threat.project(x + threat.epsilon * draw.uniform(x), x)
    way = draw.normal(x)
    share = draw.uniform(x[:, :1].flatten(1)[:, :1]).abs()
    return threat.project(
        x + threat.epsilon * broadcast_to_records(share[:, 0], x) * way / broadcast_to_records(flat_norm(way), x), x
    )


def broadcast_to_records(values: Tensor, like: Tensor) -> Tensor:
    """One value a record, broadcastable to the records."""
    return values.view(-1, *[1] * (like.dim() - 1))
