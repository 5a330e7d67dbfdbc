"""Gradients along straight lines from baselines to records, summed; memory does not depend on the number of points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.explain.base import gradient_of
from assay.explain.leading import Function, without_leading_layers
from assay.explain.scalars import Scalar
from assay.models.batches import at_once
from assay.models.layout import for_many

_TOGETHER, _ROWS = 2**18, 112
"""Entries and points that a processor computes together, at most: more is slower, since its caches are small."""
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


def midpoints(count: int) -> list[float]:
    """Returns the midpoints of equal steps from 0 to 1.

    Args:
        count: number of steps.

    Returns:
        The points, in rising order.
    """
    return [(number + 0.5) / count for number in range(count)]


def new_midpoints(count: int) -> list[tuple[float, int]]:
    """Returns the midpoints of ``count`` equal steps that are not midpoints of a third as many.

    Args:
        count: number of steps, a multiple of three.

    Returns:
        The points, in rising order, each with 0 if its place among all is even, and 1 if it is odd.
    """
    return [(point, place % 2) for place, point in enumerate(midpoints(count)) if place % 3 != 1]


def sums_along(model: nn.Module, line: Line, points: Sequence[tuple[float, int]], scalar: Scalar) -> list[Tensor]:
    """Returns two sums of each record's gradients at points on its line.

    The first linear layers of the network map a line to a line, and a sum of gradients back to a sum. They are
    therefore asked for both ends of a line and for its two sums, and only the other layers for each point.

    Args:
        model: from records to logits.
        line: of each record.
        points: positions on the lines, from 0 to 1, each with the number of the sum that it belongs to, 0 or 1.
        scalar: that is explained.

    Returns:
        Two tensors (n, ...).
    """
    n, most = len(line.start), _most(line.start)
    model = for_many(model, line.start, n * len(points))
    leading, rest = without_leading_layers(model) if n * len(points) >= _WORTH_A_SPLIT else (None, model)
    size = _share(n, most)
    ordered = sorted(points, key=lambda point: point[1])
    parts = []
    for first in range(0, n, size):
        block = line.of(slice(first, first + size)) if size < n else line
        if leading is None:
            parts.append(_sums(rest, block, ordered, scalar, most=most))
        else:
            parts.append(_sums_behind(leading, rest, block, ordered, scalar, most=most))
    return [torch.cat(each) for each in zip(*parts, strict=True)] if size < n else parts[0]


def _sums_behind(
    leading: Function, rest: Function, line: Line, points: Sequence[tuple[float, int]], scalar: Scalar, *, most: int
) -> list[Tensor]:
    """Returns the sums of a block whose lines pass some linear layers first."""
    with torch.enable_grad():
        ends = torch.cat([line.start, line.start + line.difference]).requires_grad_(True)
        mapped = leading(ends)
    start, end = mapped.detach().chunk(2)
    sums = _sums(rest, Line(start=start, difference=end - start, target=line.target), points, scalar, most=most)
    (back,) = torch.autograd.grad(mapped, ends, torch.cat(sums))
    return list(back.chunk(2))


def _sums(
    model: Function, line: Line, points: Sequence[tuple[float, int]], scalar: Scalar, *, most: int
) -> list[Tensor]:
    """Returns the sums of a block; ``points`` are ordered by their sum."""
    start, n = line.start, len(line.start)
    together = _share(len(points), max(1, most // n))
    totals = [torch.zeros_like(start, memory_format=torch.contiguous_format) for _ in range(2)]
    targets = line.target.repeat(together)
    for first in range(0, len(points), together):
        some = points[first : first + together]
        gradient = _gradients(model, line, [place for place, _ in some], targets[: len(some) * n], scalar)
        of_first = sum(which == 0 for _, which in some)
        for total, own in zip(totals, (gradient[:of_first], gradient[of_first:]), strict=True):
            if len(own):
                total.add_(own[0] if len(own) == 1 else own.sum(0))
        # Or it would be held while the next ones are computed.
        del gradient, own
    return totals


def _gradients(model: Function, line: Line, places: Sequence[float], targets: Tensor, scalar: Scalar) -> Tensor:
    """Returns the gradients at some points of each line, (points, n, ...)."""
    start = line.start
    at = torch.tensor(places, dtype=start.dtype, device=start.device).view(-1, *[1] * start.dim())
    between = torch.addcmul(start, at, line.difference).flatten(0, 1)
    return gradient_of(model, between, targets, scalar).unflatten(0, (len(places), len(start)))


def _share(count: int, most: int) -> int:
    """Returns the greatest of the fewest parts, as equal as can be, of at most ``most`` each."""
    return math.ceil(count / math.ceil(count / most))


def _most(x: Tensor) -> int:
    """Returns the number of points that are computed together: on a GPU, as many as its memory surely holds."""
    shape = tuple(x.shape[1:])
    return at_once(shape) if x.is_cuda else max(1, min(_ROWS, _TOGETHER // max(1, math.prod(shape))))
