"""Does a map rest on answers near its baseline, where there are no data?

Integrated gradients follow lines that all begin at the baseline. A network that is changed in a small neighbourhood of
it alone, without any change of an answer to a record, has any map. Lines that keep away from the baseline do not meet
this neighbourhood. So the mean gradients on the lines from the baseline are compared with those on lines from moved
baselines, which lie where records lie around their mean, and which pass the baseline at the distance of the nearest
record or more: nearer, a change would be seen in the answer to a record. For a linear network all are equal.

Gradients of a network with many kinks, or of one that saturates, differ from line to line as well. So the likeness is
compared with that of the gradients on one moved line and on the others.
"""

import torch
from torch import Tensor
from torch.nn import functional

from assay.devices import repeatable
from assay.explain.line import Line, LineGradients
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.untouched import untouched
from assay.models.recurrent import differentiable

LINES = 10
"""Lines to each record."""
_POINTS = 5
"""Points on a line: few, for the gradients of all lines are averaged."""
_ROUNDING = 1e-6
"""Share of a distance that is rounding."""


def likeness_on_moved_lines(values: Tensor, records: MeasuredRecords) -> tuple[Tensor, Tensor]:
    """Returns how alike a map and those of moved lines are, and how alike these are to each other.

    The map of a line is the mean gradient on it, times the difference of the record and its baseline.

    Args:
        values: (n, ...) integrated gradients by entry.
        records: n records, no texts, with their network; their pool of two records or more tells how data vary.

    Returns:
        (n,) cosines of a map and of the mean map of ``LINES`` moved lines, and (n,) mean cosines of the map of one of
        these and of the mean of the others. From −1 to 1; NaN where all maps of a record are 0, or one is no number.
    """
    middle = records.reference.baseline(records.x)[:1]
    known = records.pool.to(records.x)
    away, offsets = records.x - middle, known - known.mean(0)
    starts = [middle + offsets[chosen] for chosen in lines_away(away.flatten(1), offsets.flatten(1))]
    cosines: list[Tensor] = []
    with untouched(records.model), repeatable(), differentiable(records.model):
        gradients = LineGradients(records.model, _lines(records, 0, starts[0]), _POINTS, IntegratedGradients.scalar)
        for row, start in enumerate(starts):
            slopes = gradients.mean(_lines(records, row, start), _POINTS)
            maps = (slopes * away[row]).flatten(1).double()
            total = maps.sum(0, keepdim=True)
            alike = functional.cosine_similarity(values[row].flatten()[None].double(), total)
            among = functional.cosine_similarity(maps, total - maps)
            known_maps = bool(maps.isfinite().all()) and bool(maps.any() or values[row].any())
            cosines.append(torch.stack([alike[0], among.mean()]) if known_maps else maps.new_full((2,), torch.nan))
    both = torch.stack(cosines)
    return both[:, 0], both[:, 1]


def lines_away(records: Tensor, offsets: Tensor) -> list[Tensor]:
    """Chooses moved baselines for each record whose lines to it keep away from the baseline.

    Args:
        records: (n, entries) from the baseline.
        offsets: (m, entries) moved baselines, from the baseline.

    Returns:
        For each record up to ``LINES`` positions of moved baselines, at equal distances among those whose lines pass
        the baseline no nearer than the nearest of ``offsets`` lies; of those that keep farthest, where these are fewer.
    """
    one, other = records.double(), offsets.double()
    products, squares = one @ other.T, other.square().sum(1)
    lengths = (one.square().sum(1, keepdim=True) + squares - 2 * products).clamp_min(torch.finfo(one.dtype).tiny)
    # Place of the nearest point on the line, 0 at the moved baseline and 1 at the record.
    at = ((squares - products) / lengths).clamp(0, 1)
    nearest = squares + 2 * at * (products - squares) + at.square() * lengths
    far_enough = nearest >= (1 - _ROUNDING) * squares.min()
    chosen = []
    for row, enough in zip(nearest, far_enough, strict=True):
        places = enough.nonzero().flatten()
        if len(places) < LINES:
            chosen.append(row.topk(min(LINES, len(row))).indices)
        else:
            chosen.append(places[torch.linspace(0, len(places) - 1, LINES).long().to(places.device)])
    return chosen


def _lines(records: MeasuredRecords, row: int, start: Tensor) -> Line:
    """Returns the lines from some places, (k, ...), to one record."""
    return Line(start=start, difference=records.x[row] - start, target=records.target[row].expand(len(start)))
