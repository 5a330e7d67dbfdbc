"""Robust accuracy at every radius of a grid for little more than one run of PGD.

Radii rise, and every survivor is attacked at every one of them, from its strongest perturbation so far, stretched to
the new radius. A record that is fooled is out: what fooled it lies within every larger radius too. A survivor is left
alone at a radius only after ``LEAST`` steps there, and then only where no allowed record would be fooled even if the
loss rose ``SLACK`` times as steeply as it does: the first-order bound that Frank-Wolfe methods stop by (Jaggi 2013,
"Revisiting Frank-Wolfe"). Until then it has as many steps as a run of its own has. Later starts are random at each
radius.

A gradient may be true in direction and false in size, which plain PGD does not notice. So the slope is measured by what
the steps so far have changed: where that is more than the gradient promised, the bound grows as much.

One minimal-norm run for all radii (FMN, Pintor et al. 2021, arXiv:2102.12827) would say nothing of a record at a radius
at which it was never attacked.
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
"""Steps that every survivor takes at every radius."""
SLACK = 4.0
"""How many times as steep as it is the loss may turn out to be."""
_ROUNDING = 16
"""Units in the last place of the largest logit by which a lead may change for no reason."""
_CACHED = 2**17
"""Entries of the records that a processor takes at once: their activations then stay near it."""


class _Climbers(NamedTuple):
    """Records on their way."""

    rows: Tensor
    """(m,) their positions among all climbs."""
    record: Tensor
    """(m,) the position in the batch of the record that climbs; several targets of one record climb apart."""
    x: Tensor
    """(m, ...) what they were."""
    y: Tensor
    """(m,) labels."""
    target: Tensor
    """(m,) the class climbed towards; not looked at where the loss has none."""
    current: Tensor
    """(m, ...) where they stand."""
    understated: Tensor
    """(m,) by what factor, of at least 1, the lead has changed more than its gradient promised, at most."""

    def where(self, going: Tensor) -> "_Climbers":
        return _Climbers(*(kept[going] for kept in self))


@dataclass
class _Found:
    """The strongest perturbation of each climb so far."""

    x: Tensor
    """(climbs, ...)."""
    losses: Tensor
    """(climbs,) what the attack climbs, there; infinite where the record is fooled."""
    fooled: Tensor
    """(n,) bool, of each record."""

    def update(self, at: _Climbers, losses: Tensor, fooled: Tensor) -> None:
        """Keep what fools, or comes nearer to it, of the climbs at ``at``."""
        losses = losses.to(self.losses).masked_fill(fooled, math.inf)
        better = fooled | (losses > self.losses[at.rows])
        chosen = at.rows[better]
        self.x[chosen], self.losses[chosen] = at.current[better], losses[better]
        self.fooled[at.record[fooled]] = True

    def best(self, records: int) -> Tensor:
        """Of each record the strongest perturbation over its climbs, (n, ...)."""
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
    """Propose perturbed records, (n, ...), for each threat in turn.

    Args:
        model: in evaluation mode; equal records have equal answers.
        x: (n, ...) valid records.
        y: (n,) labels.
        threats: of one norm, their radii above 0 and rising.
        loss: what is climbed.
        steps: at most so many at each radius, from each start.
        relative_step: the first step is ``relative_step * epsilon`` from a warm start, and the t-th that by t, so that
            the last has the size of plain PGD's; after a random start all have that size.
        restarts: starts at each radius.
        momentum: share of the last direction that enters the next one.
        draw: of random starts.
        targets: where above 0, so many wrong classes, those with the greatest logits at the record itself, are climbed
            towards apart from each other, by the margin of each over the label, whatever ``loss`` is.
        start_at_random: whether the first start is random at the smallest radius, too.
    """
    layout = _fastest_layout(model, x)
    start = _climbers(model, x.to(memory_format=layout), y, targets)
    found = _Found(
        x=start.x.clone(),
        losses=torch.full((len(start.x),), -math.inf, dtype=x.dtype, device=x.device),
        fooled=torch.zeros(len(x), dtype=torch.bool, device=x.device),
    )
    last = threats[0].epsilon
    climbed: LossName | None = None if targets else loss
    for threat in threats:
        for restart in range(restarts):
            at = start.where(~found.fooled[start.record])
            if not len(at.rows):
                break
            if restart == 0 and not (start_at_random and threat is threats[0]):
                warm = threat.project(at.x + threat.epsilon / last * (found.x[at.rows] - at.x), at.x)
                sizes = [relative_step * threat.epsilon / step for step in range(1, steps + 1)]
            else:
                warm = random_start(at.x, threat, draw.of(at.record))
                sizes = [relative_step * threat.epsilon / steps] * steps
            _climb(model, at._replace(current=warm.to(memory_format=layout)), threat, found, sizes, climbed, momentum)
        last = threat.epsilon
        yield found.best(len(x))


def _climbers(model: nn.Module, x: Tensor, y: Tensor, targets: int) -> _Climbers:
    """One climb a record, or one for each of its targets."""
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
    found: _Found,
    sizes: Sequence[float],
    loss: LossName | None,
    momentum: float,
) -> None:
    """Take steps of these sizes, each climb until its record is fooled or it is hopeless, and keep what is found.

    Args:
        loss: None for the margin of the climb's own target.
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
        found.update(at, here.losses, threat.goal(here.logits, at.y))
        if step == len(sizes):
            return
        going = ~found.fooled[at.record]
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
    """What is above 0 exactly where a record is fooled, and does not saturate."""

    values: Tensor
    """(m,)."""
    steepness: Tensor
    """(m,) its slope, as a multiple of the slope of what is climbed."""


def _lead(here: Slope, y: Tensor, loss: LossName | None) -> _Lead:
    """The loss itself, or of cross-entropy the margin."""
    if loss != "cross_entropy":
        return _Lead(here.losses, torch.ones_like(here.losses))
    # Its gradient is that of the logits' differences times the probability of being wrong.
    wrong = here.logits.softmax(1).scatter(1, y[:, None], 0.0).sum(1)
    return _Lead(margin(here.logits, y), 1 / wrong)


def _understated(so_far: Tensor, change: Tensor, promised: Tensor) -> Tensor:
    """By what factor leads have changed more than was promised, both (m,) and at least 0, after one more step.

    At least what holds of all records together: one on which a step led nowhere says nothing of its own slope.
    """
    together = change.sum() / promised.sum()
    each = torch.maximum(so_far, (change / promised).nan_to_num(nan=1.0, posinf=torch.inf).to(so_far))
    return torch.maximum(each, together.nan_to_num(nan=1.0, posinf=torch.inf).to(so_far))


def _hopeless(gradient: Tensor, lead: _Lead, at: _Climbers, threat: Threat) -> Tensor:
    """Where no allowed record would be fooled even on a slope that is ``SLACK`` times as steep, (m,) bool.

    What is not known (a slope of 0 by 0) is not hopeless.
    """
    rise = SLACK * at.understated * lead.steepness * _greatest_rise(gradient, at, threat)
    return rise < -lead.values


def _greatest_rise(gradient: Tensor, at: _Climbers, threat: Threat) -> Tensor:
    """By how much the loss would rise on the way to the best allowed record, were it linear, (n,); never too little."""
    if threat.norm == "linf":
        low, high = threat.bounds.box(at.x, threat.epsilon)
        return torch.maximum(gradient * (high - at.current), gradient * (low - at.current)).flatten(1).sum(1)
    return threat.epsilon * flat_norm(gradient) - (gradient * (at.current - at.x)).flatten(1).sum(1)


def _slope(model: nn.Module, at: _Climbers, loss: LossName | None) -> Slope:
    """The same as ``slope``, in batches that stay in a processor's cache."""
    x = at.current
    most = len(x) if x.is_cuda else max(16, _CACHED // math.prod(x.shape[1:]))
    parts = []
    for part, y, target in zip(x.split(most), at.y.split(most), at.target.split(most), strict=True):
        climbed: Loss = partial(targeted_margin, target=target) if loss is None else loss
        parts.append(slope(model, part, y, climbed))
    return parts[0] if len(parts) == 1 else Slope(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.no_grad()
def answers_alike(model: nn.Module, x: Tensor, other: nn.Module | None = None) -> bool:
    """Whether of a few records (n, ...) the model says the same twice, or the other one says what it does."""
    first, again = model(x[:8]), (model if other is None else other)(x[:8])
    return first.shape == again.shape and torch.allclose(first, again.to(first), rtol=0, atol=0, equal_nan=True)


@torch.no_grad()
def _fastest_layout(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Channels last for images on a processor, where convolutions take about a tenth less time so; else as they come.

    A network may view its activations in a way that this layout does not allow.
    """
    if x.is_cuda or x.dim() != 4:
        return torch.preserve_format
    try:
        model(x[:2].to(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.preserve_format
    return torch.channels_last
