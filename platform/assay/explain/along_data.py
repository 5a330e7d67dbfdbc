"""How much of the effects that a map names is left on records of the data (after Anders et al. 2020, arXiv:2007.09969).

Data lie near a surface: columns copy each other, neighbouring pixels are alike. A network can be given any slope across
that surface, and hence any map, while its answers to the data stay. A map reads as a sum: a record that differs by d
has another answer by Σ slope · d. Across the surface the terms of this sum cancel each other, and along it they do not.
So the variance of the sum over records of the data is compared with the sum of the variances of its terms. The share is
1 on average for slopes of random signs, whatever the correlations of the data; it is above 1 where a network has learnt
from features that vary together, and near 0 where slopes point to where no data are. Nothing is inverted, so a few
records suffice in any number of dimensions.
"""

import torch
from torch import Tensor

from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.saliency import InputTimesGradient


def slopes_of(explainer: Explainer, values: Tensor, records: MeasuredRecords) -> Tensor | None:
    """Returns the change of the answer by a unit of each entry, as a method says.

    Args:
        explainer: the method.
        values: (n, ...) its values by entry.
        records: that are explained.

    Returns:
        (n, ...) slopes, 0 where an entry is that of the baseline; None for texts, and for methods without slopes.
    """
    if records.reference.modality == "text":
        return None
    if not explainer.multiplies_by_change:
        return values
    if not isinstance(explainer, IntegratedGradients | InputTimesGradient):
        return None
    change = records.x - records.reference.baseline(records.x)
    return torch.where(change != 0, values / torch.where(change != 0, change, 1), 0)


@torch.no_grad()
def share_left(slopes: Tensor, known: Tensor, *, one_unit: bool = False) -> Tensor:
    """Returns the variance of the sum of effects over records of the data, by the sum of the variances of its terms.

    Args:
        slopes: (n, ...) change of the answer by a unit of each entry.
        known: (m, ...) records of the data, two or more.
        one_unit: whether the terms are for changes by the usual deviation of an entry, not by its own. A map of
            slopes shows a constant pixel as bright as any other, and no data ever change it.

    Returns:
        (n,) shares, float64, from 0 to the number of entries; NaN where no entry with a slope varies.
    """
    each = slopes.flatten(1).double()
    data = known.flatten(1).double().to(each)
    data = data - data.mean(0)
    whole = (data @ each.T).square().mean(0)
    variances = data.square().mean(0)
    terms = each.square() @ (variances.mean().expand_as(variances) if one_unit else variances)
    return torch.where(terms > 0, whole / terms, torch.nan)
