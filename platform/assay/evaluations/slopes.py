"""Checks whether the model's gradients hold at the scale of an attack, or only very close to the record."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay.attacks.ascent import direction, slope
from assay.attacks.losses import margin
from assay.models.batches import respond
from assay.results import Check
from assay.seeds import Draw
from assay.threats import Threat

LENGTHS = (1 / 16, 1 / 8, 1 / 4)
"""Steps that are tried, as shares of ε. A whole ε may leave the region in which the slope is constant."""
LOWEST, HIGHEST = 0.6, 1.7
"""Limits of the actual rise, divided by the predicted one. Networks without masked gradients have 0.8 to 1.2."""


def rises(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, share: float, draw: Draw) -> Tensor:
    """Returns the actual rise of the margin divided by the rise that its gradient predicts.

    The directions are the steepest one in the norm of the threat, and two in which a random half of the inputs moves,
    because a gradient may hold along one line only.

    Args:
        model: in evaluation mode.
        x: (n, ...) valid records.
        y: (n,) their labels.
        threat: norm, radius and bounds.
        share: length of the step, as a share of ε.
        draw: of the directions.

    Returns:
        (3, n) ratios by direction and record; NaN where no rise is predicted.
    """
    here = slope(model, x, y, "margin")
    steepest = direction(here.gradient, threat)
    half = draw.uniform(x) < 0
    found = []
    for way in (steepest, steepest * half, steepest * ~half):
        moved = threat.bounds.confine(x + share * threat.epsilon * way, x)
        promised = (here.gradient * (moved - x)).flatten(1).sum(1)
        got = margin(respond(model, moved), y) - here.losses
        rounding = 64 * torch.finfo(here.logits.dtype).eps * here.logits.abs().amax(1)
        known = (promised.abs() > 10 * rounding) | (got.abs() > 10 * rounding)
        found.append((got / promised).masked_fill(~known, torch.nan))
    return torch.stack(found)


def true_slopes(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw, *, lengths: Sequence[float] = LENGTHS
) -> Check:
    """Checks that a step along the gradient raises the margin by about as much as the gradient predicts.

    A gradient may hold very close to the record and not at the scale of ε (where the function has a fine ripple or
    small smooth steps). It then misleads every attack that follows it, without being zero, noisy or saturated.

    Args:
        model: in evaluation mode, with equal answers to equal records.
        x: (n, ...) valid records.
        y: (n,) their labels.
        threat: whose radius sets the scale.
        draw: of the directions.
        lengths: of the steps, as shares of ε.

    Returns:
        The check.
    """
    right = ~threat.goal(respond(model, x), y)
    rows = right.nonzero()[:, 0]
    ratios = [1.0] * len(lengths)
    if len(rows):
        about = (model, x[rows], y[rows], threat)
        ratios = [_median(rises(*about, share=share, draw=draw.of(rows))) for share in lengths]
    worst = max(ratios, key=_departure)
    share = lengths[ratios.index(worst)]
    return Check(
        rule="true_slopes",
        concerns="worst_case_accuracy",
        verdict="pass" if LOWEST <= worst <= HIGHEST else "fail",
        figure=worst,
        message=(
            f"a step of {share:g} ε along the gradient raises the margin by {worst:.2g} times what the gradient "
            f"promises (median over {len(rows)} records, limits {LOWEST:g} to {HIGHEST:g}, ε = {threat.epsilon:g}): "
            "it says nothing of the model at the scale of ε; trust attacks that need no gradient"
        ),
        conditions={"epsilon": threat.epsilon, "length": share},
    )


def _median(ratios: Tensor) -> float:
    """Returns the median over all records and directions with a ratio; 1 without any."""
    known = ratios[~ratios.isnan()]
    return float(known.double().median().nan_to_num(posinf=1e9, neginf=-1e9)) if len(known) else 1.0


def _departure(ratio: float) -> float:
    """Returns how far a ratio is from 1; a half counts like a double."""
    return max(ratio, 1 / ratio) if ratio > 0 else float("inf")
