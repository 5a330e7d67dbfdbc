"""Mean gradients along straight lines from baselines to records; memory does not depend on the number of points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from assay.explain.kinks import averaged_slopes, is_known, keeps_rows
from assay.explain.leading import Function, without_leading_layers
from assay.explain.scalars import Scalar
from assay.models.batches import at_once
from assay.models.layout import for_many

_TOGETHER, _ROWS = 2**18, 112
"""Entries and points that a processor computes together, at most: more is slower, since its caches are small."""
_NEIGHBOURS, _FEWEST = 16, 4
"""Points of a line that are always computed together, so that each has neighbours: the most, and of large records."""
_WORTH_A_SPLIT = 32
"""Gradients from which it pays to take the first linear layers out."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """The straight line of each record, on which gradients are taken."""

    start: Tensor
    """(n, ...) where the lines begin."""
    difference: Tensor
    """(n, ...) from there to the records."""
    target: Tensor
    """(n,) class that is explained."""

    def of(self, rows: Tensor | slice) -> "Line":
        """Returns the lines of some records.

        Args:
            rows: (k,) their positions, or a slice.

        Returns:
            The lines.
        """
        return Line(start=self.start[rows], difference=self.difference[rows], target=self.target[rows])


class LineGradients:
    """Mean gradients of a network along lines.

    The first linear layers map a line to a line, and a sum of gradients back to a sum. They are therefore asked for
    both ends of a line and for its sum, and only the other layers for each point. Slopes of kinks are averaged between
    neighbouring points (``kinks``), unless the network does not keep its rows in order.

    Args:
        model: from records to logits.
        line: that will be asked about, or that many of its kind.
        points: on each line, as far as is known.
        scalar: that is explained.
    """

    def __init__(self, model: nn.Module, line: Line, points: int, scalar: Scalar) -> None:
        passes = len(line.start) * points
        self._averaged = keeps_rows(model, line.start, line.difference)
        if _is_same_in_any_order(model):
            model = for_many(model, line.start, passes)
        self._leading: Function | None = None
        self._rest: Function = model
        if passes >= _WORTH_A_SPLIT:
            self._leading, self._rest = without_leading_layers(model)
        self._scalar = scalar

    def mean(self, line: Line, count: int) -> Tensor:
        """Returns the mean of each record's gradients at the midpoints of equal steps on its line.

        Args:
            line: of each record.
            count: number of steps.

        Returns:
            (n, ...) gradients.
        """
        n, most = len(line.start), _most(line.start)
        segments = _segments(count, _neighbours(most))
        size = _share(n, max(1, most // len(segments[0])))
        blocks = [line.of(slice(first, first + size)) for first in range(0, n, size)] if size < n else [line]
        sums = [self._sum(block, segments) for block in blocks]
        return (torch.cat(sums) if len(sums) > 1 else sums[0]).div_(count)

    def _sum(self, line: Line, segments: Sequence[Sequence[float]]) -> Tensor:
        """Returns the sum of a block's gradients at all points."""
        if self._leading is None:
            return self._sum_behind(line, segments)
        with torch.enable_grad():
            given = line.start.detach().requires_grad_(True)
            start = self._leading(given)
        with torch.no_grad():
            difference = self._leading(line.start + line.difference) - start
        total = self._sum_behind(Line(start=start.detach(), difference=difference, target=line.target), segments)
        return torch.autograd.grad(start, given, total)[0]

    def _sum_behind(self, line: Line, segments: Sequence[Sequence[float]]) -> Tensor:
        """Returns the sum by the layers that are not taken out."""
        total = None
        for places in segments:
            gradient = self._gradients(line, places)
            part = gradient[0] if len(gradient) == 1 else gradient.sum(0)
            total = part if total is None else total.add_(part)
            # Or it would be held while the next ones are computed.
            del gradient, part
        assert total is not None
        return total

    def _gradients(self, line: Line, places: Sequence[float]) -> Tensor:
        """Returns the gradients at neighbouring points of each line, (points, n, ...)."""
        start, k = line.start, len(places)
        at = torch.tensor(places, dtype=start.dtype, device=start.device).view(-1, *[1] * start.dim())
        with torch.enable_grad():
            between = torch.addcmul(start, at, line.difference).flatten(0, 1).requires_grad_(True)
            with averaged_slopes(k if self._averaged else 1, len(between)):
                logits = self._rest(between)
            (gradient,) = torch.autograd.grad(self._scalar(logits, line.target.repeat(k)).sum(), between)
        return gradient.unflatten(0, (k, len(start)))


def _is_same_in_any_order(model: nn.Module) -> bool:
    """Whether the order of channels in memory decides nothing, as in a pooling: which of equal entries counts."""
    layers = list(model.modules())
    return all(is_known(layer) and not isinstance(layer, nn.MaxPool2d) for layer in layers)


def midpoints(count: int) -> list[float]:
    """Returns the midpoints of equal steps from 0 to 1.

    Args:
        count: number of steps.

    Returns:
        The points, in rising order.
    """
    return [(number + 0.5) / count for number in range(count)]


def _segments(count: int, most: int) -> list[list[float]]:
    """Returns the midpoints in runs of neighbours of at most ``most``, whose lengths differ by one at most."""
    points, runs = midpoints(count), math.ceil(count / most)
    ends = [math.ceil(count * run / runs) for run in range(runs + 1)]
    return [points[first:last] for first, last in pairwise(ends)]


def _share(count: int, most: int) -> int:
    """Returns the greatest of the fewest parts, as equal as can be, of at most ``most`` each."""
    return math.ceil(count / math.ceil(count / most))


def _neighbours(most: int) -> int:
    """Returns how many points of a line are computed together. It depends on the record's shape alone."""
    return max(_FEWEST, min(_NEIGHBOURS, most))


def _most(x: Tensor) -> int:
    """Returns the number of points that are computed together: on a GPU, as many as its memory surely holds."""
    shape = tuple(x.shape[1:])
    return at_once(shape) if x.is_cuda else max(1, min(_ROWS, _TOGETHER // max(1, math.prod(shape))))
