"""HopSkipJump (Chen, Jordan & Wainwright 2020, arXiv:1904.02144), L∞ and L2: search along the decision boundary."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from assay.attacks.ascent import broadcast_to_records
from assay.attacks.base import Attack
from assay.models.batches import respond
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat, flat_norm

_HALVINGS = 12
"""Bisection steps between a record and a fooling point until the boundary counts as found."""
_ENTRIES = 2**23
"""Greatest number of entries in one batch of queries."""
_TRIES = 8
"""Random valid records that are tried where no known record has another predicted class."""


@register("attack")
class HopSkipJump(Attack):
    """Starts from records of other classes, moves back to the decision boundary, and along it towards the record.

    It uses only the predicted class, neither gradients nor logits, so masking of either does not stop it. The normal of
    the boundary is estimated as the mean of random steps, each with the sign of its success. A minimal-norm attack: run
    it
    at an infinite radius and read the distances.
    """

    minimal: ClassVar[bool] = True
    follows_gradient: ClassVar[bool] = False
    starts_elsewhere: ClassVar[bool] = True

    name: Literal["hop_skip_jump"] = "hop_skip_jump"
    steps: int = Field(default=8, ge=0)
    """Steps along the boundary."""
    queries: int = Field(default=50, ge=2)
    """Random steps from which each direction is estimated; the t-th step takes √t times as many."""
    starts: int = Field(default=32, ge=1)
    """Number of nearest known records of another predicted class to start from; the nearest boundary is kept."""
    _known: Tensor | None = PrivateAttr(default=None)
    """(k, ...) records to start from; None: those of the batch."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", queries="queries", starts="starts")

    def starting_from(self, records: Tensor) -> "HopSkipJump":
        attack = self.model_copy()
        attack._known = records
        return attack

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        best = x.clone()
        rows = (~threat.goal(respond(model, x), y)).nonzero()[:, 0]
        if not len(rows):
            return best
        walk = _Walk(model, x[rows], y[rows], threat)
        boundary, fooled = self._start(walk, x if self._known is None else self._known, draw.of(rows))
        for step in range(1, self.steps + 1):
            if not bool(fooled.any()):
                break
            boundary = self._step(walk, boundary, fooled, step, draw.of(rows))
        best[rows[fooled]] = boundary[fooled]
        return best

    def _start(self, walk: "_Walk", known: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Returns the nearest boundary point of each record on the lines to others, (m, ...), and whether there is one,
        (m,).
        """
        boundary, distance = walk.x.clone(), torch.full((len(walk.x),), torch.inf).to(walk.x)
        # Pairwise distances, only of records with another predicted class.
        gaps = torch.cdist(walk.x.flatten(1), known.flatten(1))
        gaps = gaps.masked_fill(~walk.fooled_by(known), torch.inf)
        nearest = gaps.topk(min(self.starts, len(known)), largest=False)
        candidates = [known[nearest.indices[:, k]] for k in range(nearest.indices.shape[1])]
        low, high = walk.threat.bounds.box(walk.x, torch.inf)
        for turn in range(_TRIES):
            share = (draw.uniform(walk.x) + 1) / 2
            # Every second candidate is a corner: a classifier of one input is often fooled only at its limits.
            candidates.append(low + (high - low) * (share.round() if turn % 2 else share))
        for number, candidate in enumerate(candidates):
            if number >= len(candidates) - _TRIES and bool(distance.isfinite().all()):
                break
            reached = walk.back(walk.threat.bounds.confine(candidate, walk.x))
            length = walk.threat.distance(reached, walk.x).masked_fill(~walk.fools(reached), torch.inf)
            better = length < distance
            boundary[better], distance = reached[better], torch.minimum(length, distance)
        return boundary, distance.isfinite()

    def _step(self, walk: "_Walk", boundary: Tensor, fooled: Tensor, step: int, draw: Draw) -> Tensor:
        """Takes one step along the boundary, (m, ...): a direction, the longest step along it that fools, and back."""
        length = walk.threat.distance(boundary, walk.x)
        size = boundary[0].numel()
        # As in the paper: short enough that the boundary is nearly flat, long enough to cross it.
        reach = length / size if walk.threat.norm == "linf" else length / size**0.5
        way = self._direction(walk, boundary, reach, round(self.queries * step**0.5), draw)
        stride = length / step**0.5
        moved, open_ = boundary.clone(), fooled.clone()
        for _ in range(_HALVINGS):
            if not bool(open_.any()):
                break
            tried = walk.valid(boundary + broadcast_to_records(stride, boundary) * way)
            hit = walk.fools(tried) & open_
            moved[hit] = tried[hit]
            open_ &= ~hit
            stride = stride / 2
        back = walk.back(moved)
        nearer = (walk.threat.distance(back, walk.x) < length) & fooled
        return torch.where(broadcast_to_records(nearer, boundary), back, boundary)

    def _direction(self, walk: "_Walk", boundary: Tensor, reach: Tensor, queries: int, draw: Draw) -> Tensor:
        """Returns unit steps, (m, ...), in the norm of the threat, towards the side where more random steps fool."""
        drawn = draw.normal if walk.threat.norm == "l2" else draw.uniform
        total, gone, balance = torch.zeros_like(boundary), torch.zeros_like(boundary), torch.zeros_like(reach)
        # As many steps at once as fit into memory.
        most = max(1, _ENTRIES // boundary.numel())
        for start in range(0, queries, most):
            noise = torch.cat([drawn(boundary) for _ in range(min(most, queries - start))])
            rounds = len(noise) // len(boundary)
            unit = noise / broadcast_to_records(flat_norm(noise).clamp_min(1e-12), noise) * boundary[0].numel() ** 0.5
            from_here = boundary.repeat(rounds, *[1] * (boundary.dim() - 1))
            tried = walk.valid(from_here + broadcast_to_records(reach.repeat(rounds), unit) * unit)
            signs = torch.where(walk.fools(tried), 1.0, -1.0).to(boundary)
            steps = tried - from_here
            total += (broadcast_to_records(signs, steps) * steps).view(rounds, *boundary.shape).sum(0)
            gone += steps.view(rounds, *boundary.shape).sum(0)
            balance += signs.view(rounds, -1).sum(0)
        # The mean sign is subtracted: where nearly all steps fool, or nearly none, the few others show the boundary.
        mean = balance / queries
        way = torch.where(
            broadcast_to_records(mean.abs() < 1, boundary), total - broadcast_to_records(mean, boundary) * gone, total
        )
        if walk.threat.norm == "linf":
            return way.sign()
        return way / broadcast_to_records(flat_norm(way).clamp_min(1e-12), way)


class _Walk:
    """Records with their labels, the model and the threat, and the bisection back to each record."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
        self.model, self.x, self.y, self.threat = model, x, y, threat

    def fooled_by(self, known: Tensor) -> Tensor:
        """Returns which outputs for other records, (k, ...), would fool each record, (m, k)."""
        size = max(1, _ENTRIES // known[0].numel())
        answers = torch.cat([respond(self.model, part) for part in known.split(size)])
        labels, place = self.y.unique(dim=0, return_inverse=True)
        return torch.stack([self.threat.goal(answers, label.expand(len(known), *label.shape)) for label in labels])[
            place
        ]

    def fools(self, points: Tensor) -> Tensor:
        """Returns which points fool the model, (rounds · m,), for any number of rounds of all records."""
        return self.threat.goal(respond(self.model, points), self.y.repeat(len(points) // len(self.y)))

    def valid(self, points: Tensor) -> Tensor:
        """Returns the nearest valid records, (rounds · m, ...), for any number of rounds of all records."""
        rounds = len(points) // len(self.x)
        return self.threat.bounds.confine(points, self.x.repeat(rounds, *[1] * (self.x.dim() - 1)))

    def back(self, points: Tensor) -> Tensor:
        """Moves points that fool, (m, ...), as close to their record as they still fool; other points stay."""
        far = self.threat.distance(points, self.x)
        near = torch.zeros_like(far)
        reached = points.clone()
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            tried = self._within(points, middle)
            hit = self.fools(tried)
            reached = torch.where(broadcast_to_records(hit, points), tried, reached)
            far, near = torch.where(hit, middle, far), torch.where(hit, near, middle)
        return reached

    def _within(self, points: Tensor, radius: Tensor) -> Tensor:
        """Returns the nearest point within each record's own radius, (m, ...)."""
        change = points - self.x
        if self.threat.norm == "linf":
            limit = broadcast_to_records(radius, change)
            return self.x + change.clamp(-limit, limit)
        return self.x + change * broadcast_to_records(
            (radius / flat_norm(change).clamp_min(1e-12)).clamp(max=1), change
        )
