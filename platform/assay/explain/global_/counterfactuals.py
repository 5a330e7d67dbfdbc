"""Nearest counterfactuals (Wachter et al. 2018) of a table: the least change of a record that changes the decision.

Distances are Euclidean, each input counted in its spread (``ChangeRules.spread``), so a column in units of 1e6 and one
in units of 1e-6 weigh the same. Where the model has a gradient, the boundary is taken as its
tangent plane at the last point found, and the nearest point of that plane within the ranges becomes the next one, as in
DeepFool (Moosavi-Dezfooli et al. 2016) with the record, not the last point, as origin; each point beyond the boundary
is moved back to it by bisection. Without a gradient, or where that finds nothing, the search begins at other records,
and goes back input by input. Values are then rounded as they are reported, inputs that need no change are put back, and
what is left is judged by the model and the rules alone.

Libraries for counterfactuals let rounding undo the change of class, and move immutable columns by a rounding error,
which is why this is our own code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay.devices import repeatable
from assay.explain.global_.change_rules import ChangeRules
from assay.explain.global_.projection import least_step
from assay.explain.untouched import untouched
from assay.models.batches import respond
from assay.models.recurrent import differentiable

Decide = Callable[[Tensor], Tensor]
"""From logits (n, classes) to decisions (n,)."""
_HALVINGS = 40
_MOST_CLASSES = 10
"""Greatest number of other classes towards which the boundary is searched, the likeliest first."""
_BEYOND = 1e-4
"""Share by which a step goes past the tangent plane, so that it lands beyond the boundary of a linear model."""
_GROWTH = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0)
"""How much further than the boundary is tried, as a share of the change, before rounding."""


@dataclass(frozen=True, kw_only=True)
class Counterfactuals:
    """What was found for some records."""

    found: np.ndarray
    """(n,) bool: whether there is one that the model and every rule confirm, after rounding."""
    values: np.ndarray
    """(n, inputs) float32; the record itself where none was found."""
    before: np.ndarray
    """(n,) decision on the record."""
    after: np.ndarray
    """(n,) decision on the counterfactual."""
    distance: np.ndarray
    """(n,) distance of the rounded counterfactual from the record, in spreads of inputs; NaN where none was found."""
    exact: np.ndarray
    """(n,) the same before rounding; NaN where none was found."""
    changed: np.ndarray
    """(n,) number of inputs that changed."""


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What every part of a search uses."""

    model: nn.Module
    decide: Decide
    rules: ChangeRules
    steps: int
    gradient: bool
    only: Tensor | None

    def decision(self, x: Tensor) -> Tensor:
        return self.decide(respond(self.model, x))

    def scaled(self, change: Tensor) -> Tensor:
        """Returns changes of the inputs in their spreads, float64."""
        return change.double() / torch.from_numpy(self.rules.spread).to(change.device)

    def distance(self, x: Tensor, other: Tensor) -> Tensor:
        """Returns the distance of records from others, (n,) float64."""
        return self.scaled(other.double() - x.double()).square().sum(-1).sqrt()

    def room(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how far each input of all records may go down and up, (n, inputs) each; 0 for those that stay."""
        given = (self.rules.low, self.rules.high, self.rules.continuous)
        low, high, free = (torch.from_numpy(np.array(one)).to(x.device) for one in given)
        movable = free & (x >= low) & (x <= high)
        if self.only is not None:
            movable = movable & self.only
        return torch.where(movable, low - x, 0.0), torch.where(movable, high - x, 0.0)


def nearest_counterfactuals(
    model: nn.Module,
    x: Tensor,
    rules: ChangeRules,
    decide: Decide,
    *,
    starts: Tensor | None = None,
    gradient: bool = True,
    steps: int = 30,
    only: Tensor | None = None,
) -> Counterfactuals:
    """Searches the nearest counterfactual of each record, and judges it.

    At most one column of categories, or ordered one, changes; numbers change freely within their ranges. A number of a
    record that lies outside of the range stays as it is.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, inputs) float32 records of a table.
        rules: which changes are allowed, and how values are rounded.
        decide: from logits to decisions.
        starts: (m, inputs) valid records at which the search may begin; needed where there is no gradient.
        gradient: whether the model has one.
        steps: points of the search along the boundary.
        only: (n, inputs) bool, the numbers of each record that may change; None for all that the rules allow.

    Returns:
        The counterfactuals; nothing is called found that is not confirmed.
    """
    search = _Search(model=model, decide=decide, rules=rules, steps=steps, gradient=gradient, only=only)
    with untouched(model), repeatable(), differentiable(model):
        own = search.decision(x)
        best, exact = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        rounded, distance = x.clone(), exact.clone()
        for base in _bases(x, rules):
            if base is not x and bool((base == x).all()):
                continue
            point = _continuous(search, base, own, starts)
            tried = _rounded(search, x, base, point, own)
            for kept, reach, new in ((best, exact, point), (rounded, distance, tried)):
                far = search.distance(x, new)
                nearer = (search.decision(new) != own) & (far < reach)
                kept[nearer], reach[nearer] = new[nearer], far[nearer]
        after = search.decision(rounded)
    return _judged(x, rounded, own, after, exact, rules)


def _judged(  # noqa: PLR0917
    x: Tensor, changed: Tensor, own: Tensor, after: Tensor, exact: Tensor, rules: ChangeRules
) -> Counterfactuals:
    """Keeps what the model and the rules confirm; everything else counts as not found."""
    records, values = x.cpu().numpy().astype(np.float32), changed.cpu().numpy().astype(np.float32)
    found = (after != own).cpu().numpy() & rules.allow(records, values)
    values = np.where(found[:, None], values, records)
    moved = records.view(np.uint32) != values.view(np.uint32)
    distance = np.sqrt((((values.astype(np.float64) - records) / rules.spread) ** 2).sum(1))
    return Counterfactuals(
        found=found,
        values=values,
        before=own.cpu().numpy(),
        after=np.where(found, after.cpu().numpy(), own.cpu().numpy()),
        distance=np.where(found, distance, np.nan),
        exact=np.where(found, exact.cpu().numpy(), np.nan),
        changed=moved.sum(1),
    )


def _bases(x: Tensor, rules: ChangeRules) -> list[Tensor]:
    """Returns the records, and the records with each category or place of an ordered column that they may have."""
    found = [x]
    for one in rules.alternatives:
        other = x.clone()
        other[:, torch.from_numpy(one.inputs).to(x.device)] = torch.from_numpy(one.values).to(x)
        found.append(other)
    return found


def _continuous(search: _Search, x: Tensor, own: Tensor, starts: Tensor | None) -> Tensor:
    """Returns the nearest point beyond the boundary that changes numbers alone; the record where none is found."""
    low, high = search.room(x)
    best = x.clone()
    reach = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    reach[search.decision(x) != own] = 0.0
    if search.gradient:
        logits = respond(search.model, x)
        for other in logits.argsort(dim=1, descending=True, stable=True).T[: 1 + _MOST_CLASSES]:
            _along_boundary(search, x, own, other, low, high, best, reach)
    left = torch.isinf(reach)
    if bool(left.any()) and starts is not None and len(starts):
        best[left] = _from_starts(search, x[left], own[left], starts, low[left], high[left])
    return best


def _along_boundary(  # noqa: PLR0917
    search: _Search, x: Tensor, own: Tensor, other: Tensor, low: Tensor, high: Tensor, best: Tensor, reach: Tensor
) -> None:
    """Follows the tangent planes of the boundary towards one class; ``best`` and ``reach`` take what is nearer."""
    rows = torch.nonzero((other != own) & (reach > 0)).squeeze(1)
    if not len(rows):
        return
    x, own, other, low, high = x[rows], own[rows], other[rows], low[rows], high[rows]
    point = x.clone()
    spread = torch.from_numpy(search.rules.spread).to(x.device)
    for _ in range(search.steps):
        crossed = search.decision(point) != own
        if bool(crossed.any()):
            point[crossed] = _bisected(search, x[crossed], point[crossed], own[crossed])
            far = search.distance(x, point)
            nearer = crossed & (far < reach[rows])
            best[rows[nearer]], reach[rows[nearer]] = point[nearer], far[nearer]
        gap, slope = _gap(search.model, point, other)
        needed = -gap.double() + (slope.double() * (point.double() - x.double())).sum(1)
        step = spread * least_step(slope.double() * spread, needed, search.scaled(low), search.scaled(high))
        point = torch.minimum(torch.maximum((x + (1 + _BEYOND) * step).to(x), x + low), x + high)


def _gap(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the logit of a class minus the greatest other one, (n,), and its gradient."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_(True)
        logits = model(point)
        mine = logits.gather(1, other[:, None]).squeeze(1)
        gap = mine - logits.scatter(1, other[:, None], -torch.inf).amax(1)
        (slope,) = torch.autograd.grad(gap.sum(), point)
    return gap.detach(), torch.nan_to_num(slope.detach(), posinf=0.0, neginf=0.0)


def _bisected(search: _Search, x: Tensor, beyond: Tensor, own: Tensor) -> Tensor:
    """Returns the point nearest to each record on the line to a point beyond the boundary that is still beyond it."""
    near, far = torch.zeros(len(x), 1, device=x.device), torch.ones(len(x), 1, device=x.device)
    change = beyond - x
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        crossed = (search.decision(x + middle * change) != own)[:, None]
        near, far = torch.where(crossed, near, middle), torch.where(crossed, middle, far)
    return torch.where(far < 1, x + far * change, beyond)


def _from_starts(  # noqa: PLR0917
    search: _Search, x: Tensor, own: Tensor, starts: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Returns the nearest start with another answer, brought back to the boundary input by input."""
    found = x.clone()
    for row in range(len(x)):
        moves = torch.minimum(torch.maximum(starts - x[row], low[row]), high[row])
        others = x[row] + moves
        differs = search.decision(others) != own[row]
        if bool(differs.any()):
            far = torch.where(differs, search.distance(x[row], others), torch.inf)
            found[row] = others[int(far.argmin())]
    crossed = search.decision(found) != own
    if bool(crossed.any()):
        found[crossed] = _bisected(search, x[crossed], found[crossed], own[crossed])
        for _ in range(2):
            found[crossed] = _input_by_input(search, x[crossed], found[crossed], own[crossed])
    return found


def _input_by_input(search: _Search, x: Tensor, point: Tensor, own: Tensor) -> Tensor:
    """Moves one input after the other as near to the record as the decision allows, the most changed first."""
    order = search.scaled(point - x).abs().argsort(dim=1, descending=True, stable=True)
    for place in range(x.shape[1]):
        column = order[:, place : place + 1]
        start, end = x.gather(1, column), point.gather(1, column)
        near, far = torch.zeros_like(start), torch.ones_like(start)
        back = point.scatter(1, column, start)
        free = (search.decision(back) != own)[:, None]
        for _ in range(12):
            middle = (near + far) / 2
            tried = point.scatter(1, column, start + middle * (end - start))
            crossed = (search.decision(tried) != own)[:, None]
            near, far = torch.where(crossed, near, middle), torch.where(crossed, middle, far)
        nearer = torch.where(free, start, torch.where(far < 1, start + far * (end - start), end))
        point = point.scatter(1, column, nearer)
    return point


def _rounded(search: _Search, x: Tensor, base: Tensor, point: Tensor, own: Tensor) -> Tensor:
    """Returns points with values as they are reported, and no more of them than the decision needs.

    An input whose reported value would be that of the record is the record's own, bit for bit. Points that rounding
    brings back over the boundary are tried further out.
    """
    best, reach = base.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    own_values = search.rules.reported(base.cpu().numpy())
    low, high = search.room(base)
    for further in _GROWTH:
        grown = base + torch.minimum(torch.maximum((1 + further) * (point - base), low), high)
        nearest = search.rules.reported(grown.cpu().numpy())
        away = np.where(grown.cpu().numpy() > base.cpu().numpy(), 1.0, -1.0) * np.sign(search.rules.scale)
        for values in (nearest, nearest + away * search.rules.step):
            inputs = torch.from_numpy(search.rules.inputs_of(values)).to(x)
            moves = torch.from_numpy(values != own_values).to(x.device) & (grown != base)
            tried = torch.where(moves, inputs, base)
            far = search.distance(x, tried)
            nearer = (search.decision(tried) != own) & (far < reach)
            best[nearer], reach[nearer] = tried[nearer], far[nearer]
    return _put_back(search, x, base, best, own)


def _put_back(search: _Search, x: Tensor, base: Tensor, point: Tensor, own: Tensor) -> Tensor:
    """Gives inputs the record's own value again where the decision stays changed, the least changed first."""
    order = search.scaled(point - base).abs().argsort(dim=1, stable=True)
    for place in range(x.shape[1]):
        column = order[:, place : place + 1]
        back = point.scatter(1, column, base.gather(1, column))
        keeps = search.decision(back) != own
        point = torch.where(keeps[:, None], back, point)
    return point


def most_changed(x: Tensor, found: Counterfactuals, rules: ChangeRules, most: int) -> Tensor:
    """Returns the numbers of each record that changed most, in which a search for fewer changes may look.

    Args:
        x: (n, inputs) records.
        found: their nearest counterfactuals.
        rules: which inputs are numbers that may change.
        most: greatest number of inputs a record.

    Returns:
        (n, inputs) bool.
    """
    change = np.abs(found.values.astype(np.float64) - x.cpu().numpy()) / rules.spread * rules.continuous
    order = np.argsort(-change, axis=1, kind="stable")[:, :most]
    kept = np.zeros(change.shape, bool)
    np.put_along_axis(kept, order, True, axis=1)
    return torch.from_numpy(kept & (change > 0)).to(x.device)
