"""Gradient ascent inside a threat model, used by PGD, its curves and adversarial training."""

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
"""A name, or a function from logits (n, classes) and labels (n,) to one value per record."""


class Slope(NamedTuple):
    """Logits, losses and gradients of some records."""

    logits: Tensor
    """(n, classes)."""
    losses: Tensor
    """(n,)."""
    gradient: Tensor
    """(n, ...), 0 where it is not finite."""


def slope(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Slope:
    """Runs one forward and one backward pass. Only gradients with respect to the records are computed.

    Args:
        model: from records to logits.
        x: (n, ...) records.
        y: (n,) labels.
        loss: to differentiate.

    Returns:
        Logits, losses and gradients.
    """
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
    """Runs projected gradient ascent on the loss, from ``start``.

    With ``keep_fooled`` a record that reaches the threat's goal stays at that point and costs no further passes.

    Args:
        model: from records to logits.
        x: (n, ...) valid records, the centres of the threat model.
        y: (n,) labels.
        threat: threat model with its radius.
        start: (n, ...) starting points.
        steps: number of steps.
        step_size: length of a step in the norm of the threat.
        loss: to maximise; with ``keep_fooled`` a function sees only the records that are not yet fooled.
        keep_fooled: whether a record stops at the first point that reaches the goal.
        momentum: share of the last direction in the next one (see ``heading``).

    Returns:
        The last point of each record, or with ``keep_fooled`` the first that reached the goal, (n, ...); and which
        records reached it on the way, (n,) bool.
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
            going = ~fresh
            rows, current, x, y, gradient = (values[going] for values in (rows, current, x, y, gradient))
            drift = None if drift is None else drift[going]
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
    """Runs all steps of gradient ascent, and keeps the point of the highest loss.

    It is used for randomised networks, where one wrong answer may be chance, and for surrogates.

    Args:
        model: from records to logits.
        x: (n, ...) valid records, the centres of the threat model.
        y: (n,) labels.
        threat: threat model with its radius.
        start: (n, ...) starting points.
        sizes: step sizes, one for each step.
        loss: to maximise.
        momentum: share of the last direction in the next one (see ``heading``).

    Returns:
        The point of the highest loss of each record, (n, ...), and that loss, (n,): infinite where the network returned
        NaN or infinity.
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
    """Returns the direction with momentum: the gradient, scaled to L1 length 1, plus a share of the previous direction.

    See Dong et al. 2018 (arXiv:1710.06081).

    Args:
        gradient: (n, ...).
        drift: (n, ...) the previous direction; None at the first step.
        momentum: share of the previous direction.

    Returns:
        (n, ...) directions.
    """
    scaled = gradient / broadcast_to_records(
        gradient.flatten(1).abs().sum(1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient
    )
    return scaled if drift is None else momentum * drift + scaled


def direction(gradient: Tensor, threat: Threat) -> Tensor:
    """Returns the steepest step of length 1 in the norm of the threat; inputs that cannot change get 0.

    Args:
        gradient: (n, ...).
        threat: gives the norm and the fixed inputs.

    Returns:
        (n, ...) steps.
    """
    if threat.bounds.fixed is not None:
        gradient = gradient.masked_fill(threat.bounds.fixed.to(gradient.device), 0.0)
    if threat.norm == "linf":
        return gradient.sign()
    # Divided by the largest entry first: squares of a confident model's gradient would underflow in float32.
    scaled = gradient / broadcast_to_records(
        gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient
    )
    return scaled / broadcast_to_records(flat_norm(scaled).clamp_min(1e-12), gradient)


def random_start(x: Tensor, threat: Threat, draw: Draw) -> Tensor:
    """Draws random records in the threat model: uniform in L∞; in L2 a random direction with a uniform length up to ε.

    Args:
        x: (n, ...) valid records.
        threat: threat model with its radius.
        draw: random numbers.

    Returns:
        (n, ...) records.
    """
    if threat.norm == "linf":
        return threat.project(x + threat.epsilon * draw.uniform(x), x)
    noise = draw.normal(x)
    share = draw.uniform(x[:, :1].flatten(1)[:, :1]).abs()
    return threat.project(
        x + threat.epsilon * broadcast_to_records(share[:, 0], x) * noise / broadcast_to_records(flat_norm(noise), x), x
    )


def broadcast_to_records(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes one value per record so that it broadcasts to the records.

    Args:
        values: (n,).
        like: (n, ...) records, for their number of axes.

    Returns:
        A view, (n, 1, ...).
    """
    return values.view(-1, *[1] * (like.dim() - 1))
