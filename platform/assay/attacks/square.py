"""Square attack (Andriushchenko et al. 2020, arXiv:1912.00049), L∞ and L2: random search without a gradient."""

import math
from bisect import bisect_left
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.losses import margin
from assay.attacks.survivors import SurvivorAttack
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Bounds, Threat, flat_norm

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Query numbers, of 10,000, at which the window is halved."""


@register("attack")
class Square(SurvivorAttack):
    """Replaces one random window after another, and keeps a change that raises the best wrong class.

    It is a black-box attack on logits: a record that it fools and a gradient attack does not indicates masked
    gradients.
    Windows are squares of images, segments of signals and runs of features. The implementation of torchattacks needs
    images, of certain sizes in L2, and would spend queries on inputs that cannot change.
    """

    follows_gradient: ClassVar[bool] = False

    name: Literal["square"] = "square"
    queries: int = Field(default=500, ge=2)
    """Greatest number of queries for a record; AutoAttack uses 5,000."""
    window: float = Field(default=0.8, gt=0, le=1)
    """Share of the inputs that the first windows cover."""

    @property
    def label(self) -> str:
        return self._labelled(queries="", window="window")

    @torch.no_grad()
    def seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        plane = _Plane(x, threat)
        perturbed = plane.start(draw)
        lead, fooled = _lead(model(perturbed), y, threat)
        for query in range(1, self.queries):
            rows = (~fooled).nonzero().squeeze(1)
            if not len(rows):
                break
            share = self.window / 2 ** bisect_left(_HALVINGS, 10000 * query / self.queries)
            tried = plane.of(rows).moved(perturbed[rows], share, draw.of(rows))
            now, hit = _lead(model(tried), y[rows], threat)
            better = (now > lead[rows]) | hit
            kept = rows[better]
            perturbed[kept], lead[kept], fooled[kept] = tried[better], now[better], hit[better]
        return perturbed


class _Plane:
    """Records laid out as (n, channels, height, width), in which windows are replaced."""

    def __init__(self, x: Tensor, threat: Threat) -> None:
        self.shape = _layout(tuple(x.shape[1:]), threat.bounds)
        self.original, self.threat = x, threat
        self.features = x.dim() == 2
        self.x = x.reshape(-1, *self.shape)
        low, high = threat.bounds.box(x, torch.inf)
        movable = (high > low).view_as(self.x).flatten(0, 2).any(0)
        flat = self.shape[1] == 1
        self.columns = movable.nonzero().squeeze(1) if flat else torch.arange(self.shape[2], device=x.device)

    def of(self, rows: Tensor) -> "_Plane":
        """Returns the plane of some of the records."""
        return _Plane(self.original[rows], self.threat)

    def start(self, draw: Draw) -> Tensor:
        """Returns the start. L∞: stripes of ±ε, one per entry of the last axis. L2: tiles with random signs, of total
        length ε.
        """
        channels, height, width = self.shape
        if self.threat.norm == "linf":
            return self._allowed(self.threat.epsilon * self._signs(draw, channels, 1, width))
        tall, wide = self._window(1 / 25)
        down, across = -(-height // tall), -(-width // wide)
        signs = self._signs(draw, channels, down, across)
        signs = signs.repeat_interleave(tall, 2).repeat_interleave(wide, 3)[..., :height, :width]
        change = signs * _profile(tall, wide).to(self.x).repeat(down, across)[:height, :width]
        return self._allowed(change * (self.threat.epsilon / _lengths(change)))

    def moved(self, current: Tensor, share: float, draw: Draw) -> Tensor:
        """Returns the records with one window replaced: ±ε in L∞; in L2 with all the length that ε leaves for it."""
        tall, wide = self._window(share)
        change = current.view_as(self.x) - self.x
        chance = (draw.uniform(self.x.new_empty(len(self.x), 5)) + 1) / 2
        window = self._places(chance[:, :2], tall, wide)
        if self.threat.norm == "linf":
            change[window] = self.threat.epsilon * self._signs(draw, self.shape[0], 1, 1).expand(-1, -1, tall, wide)
            return self._allowed(change)
        unit = change[window] / change[window].norm(dim=(2, 3), keepdim=True).clamp_min(1e-12)
        change[window] = 0
        if self.features:
            # Neighbouring features have no spatial meaning, so the content of the window is turned at random.
            fresh = unit + torch.exp(2 - 8 * chance[:, 4]).view(-1, 1, 1, 1) * draw.normal(unit)
        else:
            # The length of a second window is moved to the first.
            change[self._places(chance[:, 2:4], tall, wide)] = 0
            upright = _profile(tall, wide).to(self.x)
            turned = upright.T if tall == wide else upright
            shape = torch.where((chance[:, 4] < 0.5).view(-1, 1, 1, 1), turned, upright)
            fresh = unit + self._signs(draw, self.shape[0], 1, 1) * shape
        spare = (self.threat.epsilon**2 - _lengths(change).square()).clamp_min(0).sqrt()
        change[window] = fresh * (spare / _lengths(fresh).clamp_min(1e-12))
        return self._allowed(change)

    def _allowed(self, change: Tensor) -> Tensor:
        """Returns the records after a change (n, channels, height, width), inside the threat model."""
        return self.threat.project((self.x + change).view_as(self.original), self.original)

    def _window(self, share: float) -> tuple[int, int]:
        """Returns height and width of a window that covers this share of the plane."""
        _, height, width = self.shape
        # In L2 a window needs several inputs to share the length, and a profile of two halves needs three rows.
        least = 1 if self.threat.norm == "linf" else 2 if self.features else 3
        if height == 1:
            return 1, min(len(self.columns), max(least, round(share * len(self.columns))))
        side = min(height, width, max(least, round((share * height * width) ** 0.5)))
        return side, side

    def _places(self, chance: Tensor, tall: int, wide: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the index of one window per record, uniformly placed by (n, 2) numbers in [0, 1)."""
        here = self.x.device
        top = (chance[:, 0] * (self.shape[1] - tall + 1)).long()
        left = (chance[:, 1] * (len(self.columns) - wide + 1)).long()
        down = top[:, None] + torch.arange(tall, device=here)
        across = self.columns[left[:, None] + torch.arange(wide, device=here)]
        records = torch.arange(len(self.x), device=here).view(-1, 1, 1, 1)
        channels = torch.arange(self.shape[0], device=here).view(1, -1, 1, 1)
        return records, channels, down[:, None, :, None], across[:, None, None, :]

    def _signs(self, draw: Draw, *shape: int) -> Tensor:
        return torch.where(draw.uniform(self.x.new_empty(len(self.x), *shape)) < 0, -1.0, 1.0).to(self.x)


def _layout(shape: tuple[int, ...], bounds: Bounds) -> tuple[int, int, int]:
    """Returns channels, height and width of a record: a signal is one row, word vectors are one plane."""
    match shape:
        case (channels, height, width):
            return channels, height, width
        case (words, dimension) if bounds.padding:
            return 1, words, dimension
        case (channels, samples):
            return channels, 1, samples
    return 1, 1, math.prod(shape)


def _profile(tall: int, wide: int) -> Tensor:
    """Returns (tall, wide) values of length 1: a peak in one half of the window, and its negative in the other."""
    if tall == 1:
        halves = [_peak(1, size) for size in (wide // 2, wide - wide // 2) if size]
    else:
        halves = [_peak(size, wide) for size in (tall // 2, tall - tall // 2)]
    both = torch.cat([*halves[:-1], -halves[-1]], 1 if tall == 1 else 0)
    return both / both.norm()


def _peak(tall: int, wide: int) -> Tensor:
    """Returns (tall, wide) values that decrease with the distance from the middle."""
    down, across = (torch.arange(size) - size // 2 for size in (tall, wide))
    away = torch.maximum(down.abs()[:, None], across.abs()[None, :])
    steps = 1 / torch.arange(1, int(away.max()) + 2).square()
    return steps.flip(0).cumsum(0).flip(0)[away]


def _lengths(change: Tensor) -> Tensor:
    """Returns the Euclidean length of each record's change, (n, 1, 1, 1)."""
    return flat_norm(change).view(-1, 1, 1, 1)


def _lead(logits: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """Returns the margin of the best wrong class, (n,), and whether the record is fooled, (n,)."""
    return margin(logits, y), threat.goal(logits, y)
