"""Do the values of a map depend on answers at one baseline, where there are no data?

Integrated gradients follow lines that all begin at the baseline. A network that is changed in a small neighbourhood of
it alone, without any change of an answer to a record, has any map. Lines that begin at other places do not meet this
neighbourhood. So the map is compared with the mean of the same values counted from the baseline moved by the spread of
the data: from the mean of the records, these are records themselves, and it is compared with expected gradients. An
answer to a record cannot be changed unnoticed. For a linear network both are equal but for the choice of records.

Maps of networks with many kinks differ from line to line as well. So the likeness is compared with that of the map from
one moved baseline to those from the others: the map from the baseline, in their middle, is more like them if nothing is
wrong.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients

BASELINES = 10
"""Places from which values are counted."""
_FROM_EACH = IntegratedGradients(points=2, most=5)
"""Few gradients along each line, for the values of all lines are averaged."""


def spread_over(size: int, count: int) -> np.ndarray:
    """Returns places at equal distances: records in the order of a file often lie class by class.

    Args:
        size: of the whole.
        count: greatest number of places.

    Returns:
        (k,) places, without repetition.
    """
    places: np.ndarray = np.unique(np.linspace(0, size - 1, min(size, count)).astype(int))
    return places


def likeness_from_moved(values: Tensor, records: MeasuredRecords) -> tuple[Tensor, Tensor]:
    """Returns how alike integrated gradients are from the baseline and from moved baselines, and these to each other.

    Args:
        values: (n, ...) integrated gradients by entry, from the baseline.
        records: n records, no texts, with their network; their pool of two records or more tells how data vary.

    Returns:
        (n,) cosines of a map and of the mean map from ``BASELINES`` moved baselines, and (n,) mean cosines of the map
        from one of these and of the mean from the others; from −1 to 1, NaN where all maps of a record are 0.

    Raises:
        ExplanationError: an answer from a moved baseline is no number.
    """
    known = records.pool.to(records.x)
    moved = records.reference.baseline(records.x)[:1] + known[spread_over(len(known), BASELINES)] - known.mean(0)
    maps = torch.stack([_values_from(start, records) for start in moved[:, None]]).flatten(2).double()
    total = maps.sum(0)
    among = functional.cosine_similarity(maps, total - maps, dim=2).mean(0)
    alike = functional.cosine_similarity(values.flatten(1).double(), total, dim=1)
    empty = (values.flatten(1) == 0).all(1) & (maps == 0).all(2).all(0)
    return alike.masked_fill(empty, torch.nan), among.masked_fill(empty, torch.nan)


def _values_from(start: Tensor, records: MeasuredRecords) -> Tensor:
    """Returns the values of the records, (n, ...), counted from one baseline, (1, ...)."""
    reference = replace(records.reference, background=start, middle=start)
    return _FROM_EACH.explain(records.model, records.x, records.target, reference).values
