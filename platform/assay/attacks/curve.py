"""Robust accuracy at every radius of a grid for little more than the cost of one run of PGD.

Radii rise. Every record that has withstood all smaller radii is attacked at each radius, starting from its strongest
perturbation so far, scaled to the new radius. A record that is fooled is done: its perturbation lies within every
larger radius too. A surviving record takes at least ``LEAST`` steps at each radius. It then stops only where no allowed
record would be fooled even if the loss rose ``SLACK`` times as steeply as its gradient says: this is the first-order
bound that Frank-Wolfe methods use as their stopping rule (Jaggi 2013, "Revisiting Frank-Wolfe"). Until then it takes
as many steps as a separate run at this radius. Later starts are random at each radius.

A gradient may have the right direction and the wrong size, which plain PGD does not notice. So the slope is measured
from the change of the loss over the steps so far. Where the loss changed more than the gradient predicted, the bound
grows by the same factor.

A single minimal-norm run for all radii (FMN, Pintor et al. 2021, arXiv:2102.12827) would give no information about a
record at a radius at which it was never attacked.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.ascent import Loss, Slope, direction, heading, random_start, slope
from assay.attacks.losses import LossName, margin, runners_up, targeted_margin
from assay.models.batches import respond
from assay.seeds import Draw
from assay.threats import Threat, flat_norm

LEAST = 2
"""Least number of steps of a surviving record at every radius."""
SLACK = 4.0
"""Safety factor on the slope of the loss in the stopping rule."""
_ROUNDING = 16
"""Rounding error that is tolerated in a change of the margin, in units in the last place of the largest logit."""
_CACHED = 2**17
"""Greatest number of entries in one batch on a CPU, so that the activations stay in its cache."""


class _Climbers(NamedTuple):
    """Runs of gradient ascent in progress: m runs, one per record, or one per record and target class."""

    rows: Tensor
    """(m,) positions among all runs."""
    record: Tensor
    """(m,) position of the record in the batch; a record with several targets has several runs."""
    x: Tensor
    """(m, ...) original records."""
    y: Tensor
    """(m,) labels."""
    target: Tensor
    """(m,) target class; unused where the loss has no target."""
    current: Tensor
    """(m, ...) current points."""
    understated: Tensor
    """(m,) greatest ratio so far, at least 1, of the change of the margin to the change that its gradient predicted."""

    def where(self, going: Tensor) -> "_Climbers":
        return _Climbers(*(kept[going] for kept in self))


@dataclass
class _Found:
    """The strongest perturbation of each run so far."""

    x: Tensor
    """(runs, ...)."""
    losses: Tensor
    """(runs,) loss at that perturbation; infinite where the record is fooled."""
    fooled: Tensor
    """(n,) bool, of each record."""

    def update(self, at: _Climbers, losses: Tensor, fooled: Tensor) -> None:
        """Keeps the points ``at`` that fool the model or have a higher loss."""
        losses = losses.to(self.losses).masked_fill(fooled, math.inf)
        better = fooled | (losses > self.losses[at.rows])
        chosen = at.rows[better]
        self.x[chosen], self.losses[chosen] = at.current[better], losses[better]
        self.fooled[at.record[fooled]] = True

    def best(self, records: int) -> Tensor:
        """Returns the strongest perturbation of each record over its runs, (n, ...)."""
        if len(self.losses) == records:
            return self.x.clone()
        climbs = self.losses.view(records, -1)
        return self.x[torch.arange(records, device=climbs.device) * climbs.shape[1] + climbs.argmax(1)]


def warm_curve(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threats: Sequence[Threat],
    *,
    loss: LossName,
    steps: int,
    relative_step: float,
    restarts: int,
    momentum: float,
    draw: Draw,
    targets: int = 0,
    start_at_random: bool = False,
) -> Iterator[Tensor]:
    """Proposes perturbed records for each threat in turn.

    Args:
        model: in evaluation mode; equal records must have equal outputs.
        x: (n, ...) valid records.
        y: (n,) labels.
        threats: of one norm, with radii above 0 in rising order.
        loss: to maximise.
        steps: greatest number of steps at each radius, from each start.
        relative_step: the first step is ``relative_step * epsilon`` from a warm start, and the t-th step is that
            divided by t, so that the last has the size of plain PGD's; after a random start all steps have that size.
        restarts: starts at each radius.
        momentum: share of the last direction in the next one.
        draw: of random starts.
        targets: if above 0, that many wrong classes, those with the greatest logits at the record itself, are attacked
            in separate runs by the margin of each over the label, whatever ``loss`` is.
        start_at_random: whether the first start is random at the smallest radius, too.

    Returns:
        Iterator over (n, ...) perturbed records, one for each threat.
    """
    layout = _fastest_layout(model, x)
    start = _climbers(model, x.to(memory_format=layout), y, targets)
    strongest = _Found(
        x=start.x.clone(),
        losses=torch.full((len(start.x),), -math.inf, dtype=x.dtype, device=x.device),
        fooled=torch.zeros(len(x), dtype=torch.bool, device=x.device),
    )
    last = threats[0].epsilon
    climbed: LossName | None = None if targets else loss
    for threat in threats:
        for restart in range(restarts):
            at = start.where(~strongest.fooled[start.record])
            if not len(at.rows):
                break
            if restart == 0 and not (start_at_random and threat is threats[0]):
                warm = threat.project(at.x + threat.epsilon / last * (strongest.x[at.rows] - at.x), at.x)
                sizes = [relative_step * threat.epsilon / step for step in range(1, steps + 1)]
            else:
                warm = random_start(at.x, threat, draw.of(at.record))
                sizes = [relative_step * threat.epsilon / steps] * steps
            _climb(
                model, at._replace(current=warm.to(memory_format=layout)), threat, strongest, sizes, climbed, momentum
            )
        last = threat.epsilon
        yield strongest.best(len(x))


def _climbers(model: nn.Module, x: Tensor, y: Tensor, targets: int) -> _Climbers:
    """Returns one run per record, or one for each of its target classes."""
    record = torch.arange(len(x), device=x.device)
    target = y
    if targets:
        wrong = runners_up(respond(model, x), y, targets)
        record, target = record.repeat_interleave(wrong.shape[1]), wrong.flatten()
        x, y = x[record], y[record]
    ones = torch.ones(len(x), dtype=x.dtype, device=x.device)
    return _Climbers(torch.arange(len(x), device=x.device), record, x, y, target, x, ones)


def _climb(  # noqa: PLR0917
    model: nn.Module,
    at: _Climbers,
    threat: Threat,
    strongest: _Found,
    sizes: Sequence[float],
    loss: LossName | None,
    momentum: float,
) -> None:
    """Takes steps of these sizes. A run stops when its record is fooled or the stopping rule applies; results go to
    ``strongest``.

    Args:
        loss: None for the margin of the run's own target.
    """
    drift: Tensor | None = None
    before: Tensor | None = None
    promised = torch.zeros_like(at.understated)
    for step in range(len(sizes) + 1):
        here = _slope(model, at, loss)
        lead = _lead(here, at.y, loss)
        if before is not None:
            rounding = _ROUNDING * torch.finfo(here.logits.dtype).eps * here.logits.abs().amax(1)
            changed = ((lead.values - before).abs() - rounding).clamp_min(0)
            at = at._replace(understated=_understated(at.understated, changed, promised))
        strongest.update(at, here.losses, threat.goal(here.logits, at.y))
        if step == len(sizes):
            return
        going = ~strongest.fooled[at.record]
        if step >= LEAST:
            going &= ~_hopeless(here.gradient, lead, at, threat)
        gradient = here.gradient
        if not bool(going.all()):
            at, gradient, lead = at.where(going), gradient[going], _Lead(*(kept[going] for kept in lead))
            drift = None if drift is None else drift[going]
            if not len(at.rows):
                return
        way = gradient
        if momentum:
            way = drift = heading(gradient, drift, momentum)
        moved = threat.project(at.current + sizes[step] * direction(way, threat), at.x)
        before, promised = lead.values, lead.steepness * (gradient * (moved - at.current)).flatten(1).sum(1).abs()
        at = at._replace(current=moved)


class _Lead(NamedTuple):
    """A margin: above 0 exactly where a record is fooled, without saturation."""

    values: Tensor
    """(m,)."""
    steepness: Tensor
    """(m,) its slope, as a multiple of the slope of the loss."""


def _lead(here: Slope, y: Tensor, loss: LossName | None) -> _Lead:
    """Returns the loss itself; for cross-entropy, the margin."""
    if loss != "cross_entropy":
        return _Lead(here.losses, torch.ones_like(here.losses))
    # The gradient of cross-entropy is that of the logits' differences times the probability of the wrong classes.
    wrong = here.logits.softmax(1).scatter(1, y[:, None], 0.0).sum(1)
    return _Lead(margin(here.logits, y), 1 / wrong)


def _understated(so_far: Tensor, change: Tensor, promised: Tensor) -> Tensor:
    """Returns the greatest ratio so far of a margin's change to its predicted change, after one more step; inputs are
    (m,).

    It is at least the ratio over all records together: a record whose step changed nothing has no slope of its own.
    """
    together = change.sum() / promised.sum()
    each = torch.maximum(so_far, (change / promised).nan_to_num(nan=1.0, posinf=torch.inf).to(so_far))
    return torch.maximum(each, together.nan_to_num(nan=1.0, posinf=torch.inf).to(so_far))


def _hopeless(gradient: Tensor, lead: _Lead, at: _Climbers, threat: Threat) -> Tensor:
    """Returns where no allowed record would be fooled even with a slope ``SLACK`` times as steep, (m,) bool.

    An undefined case (slope 0 divided by 0) is False.
    """
    rise = SLACK * at.understated * lead.steepness * _greatest_rise(gradient, at, threat)
    return rise < -lead.values


def _greatest_rise(gradient: Tensor, at: _Climbers, threat: Threat) -> Tensor:
    """Returns an upper bound on the rise of a linear loss over the allowed records, (n,)."""
    if threat.norm == "linf":
        low, high = threat.bounds.box(at.x, threat.epsilon)
        return torch.maximum(gradient * (high - at.current), gradient * (low - at.current)).flatten(1).sum(1)
    return threat.epsilon * flat_norm(gradient) - (gradient * (at.current - at.x)).flatten(1).sum(1)


def _slope(model: nn.Module, at: _Climbers, loss: LossName | None) -> Slope:
    """Computes the same as ``slope``, in batches that stay in the cache of a CPU."""
    x = at.current
    most = len(x) if x.is_cuda else max(16, _CACHED // math.prod(x.shape[1:]))
    parts = []
    for part, y, target in zip(x.split(most), at.y.split(most), at.target.split(most), strict=True):
        climbed: Loss = partial(targeted_margin, target=target) if loss is None else loss
        parts.append(slope(model, part, y, climbed))
    return parts[0] if len(parts) == 1 else Slope(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.no_grad()
def answers_alike(model: nn.Module, x: Tensor, other: nn.Module | None = None) -> bool:
    """Returns whether a model is deterministic on a few records, or agrees exactly with another model on them.

    Args:
        model: from records to logits.
        x: (n, ...) records; the first 8 are used.
        other: the model to compare with; None compares two passes of ``model``.

    Returns:
        True if all outputs are equal.
    """
    first, again = model(x[:8]), (model if other is None else other)(x[:8])
    return first.shape == again.shape and torch.allclose(first, again.to(first), rtol=0, atol=0, equal_nan=True)


@torch.no_grad()
def _fastest_layout(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Returns the fastest memory layout of the model: channels last for images on a CPU (about 10 % less time).

    Some networks view their activations in a way that this layout does not allow; they keep the default layout.
    """
    if x.is_cuda or x.dim() != 4:
        return torch.preserve_format
    try:
        model(x[:2].to(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.preserve_format
    return torch.channels_last
