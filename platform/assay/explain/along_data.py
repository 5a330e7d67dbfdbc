"""How much of the effects that a map names is left on records of the data (after Anders et al. 2020, arXiv:2007.09969).

Data lie near a surface: columns copy each other, neighbouring pixels are alike. A network can be given any slope across
that surface, and hence any map, while its answers to the data stay. A map reads as a sum: a record that differs by d
has another answer by Σ slope · d. Across the surface the terms of this sum cancel each other, and along it they do not.
So the variance of the sum over records of the data is compared with the sum of the variances of its terms. The share is
1 on average for slopes of random signs, whatever the correlations of the data; it is above 1 where a network has learnt
from features that vary together, and near 0 where the terms cancel. It is no division of the map into two parts.
Nothing is inverted, so a few records suffice in any number of dimensions.

Terms cancel in an honest contrast, too: a decision by the difference of two columns with a correlation of 0.9 leaves a
share of 0.1. There the small rest is the decision, and nothing can be taken away from the slopes. Terms that do not
matter can be: far shorter slopes have the same effects on the data. So the second figure is the least squared length
of slopes with the same effects, by that of the slopes themselves.
"""

import torch
from torch import Tensor

from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.saliency import InputTimesGradient

_SAME = 0.05
"""Greatest squared error of the same effects, as a share of their variance."""
_PENALTIES = torch.logspace(-8, 0, 33, dtype=torch.float64)
"""Of the ridge regressions, as shares of the greatest squared singular value."""


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


@torch.no_grad()
def share_needed(slopes: Tensor, known: Tensor, *, one_unit: bool = False) -> Tensor:
    """Returns the least squared length of slopes that have the same effects on records of the data.

    The shortest slopes with an error of effects are those of a ridge regression on the effects. They are found on one
    half of the records, and their error is that on the other half, so few records do not make them look sufficient:
    effects that vary in more directions than there are records are not reproduced, and nothing can be left out.

    Args:
        slopes: (n, ...) change of the answer by a unit of each entry.
        known: (m, ...) records of the data, four or more.
        one_unit: as in ``share_left``; otherwise a length counts an entry in its standard deviations.

    Returns:
        (n,) shares of the squared length, float64, at most 1; 1 where no shorter slopes are known to have the same
        effects, NaN where no entry with a slope varies.
    """
    each = slopes.flatten(1).double()
    data = known.flatten(1).double().to(each)
    data = data - data.mean(0)
    if not one_unit:
        deviation = data.square().mean(0).sqrt()
        each = each * deviation
        data = data / torch.where(deviation > 0, deviation, 1)
    halves = (data[::2], data[1::2])
    effects = sum(((half @ each.T).square().sum(0) for half in halves), torch.zeros(()).to(each))
    lengths = each.square().sum(1)
    shorter = [_shorter(each, fit, other) for fit, other in (halves, halves[::-1])]
    same = sum(error for _, error in shorter) <= _SAME * effects
    found = torch.where(same, sum(length for length, _ in shorter) / 2, lengths).amin(0) / lengths
    return torch.where(effects > 0, found, torch.nan)


def _shorter(each: Tensor, fit: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (penalties, n) squared lengths of shorter slopes, and the squared errors of their effects elsewhere."""
    _, sizes, directions = torch.linalg.svd(fit, full_matrices=False)
    along, moved = each @ directions.T, other @ directions.T
    whole = other @ each.T
    lengths, errors = [], []
    for penalty in sizes[0].square() * _PENALTIES.to(each):
        held = along * (sizes.square() / (sizes.square() + penalty))
        lengths.append(held.square().sum(1))
        errors.append((whole - moved @ held.T).square().sum(0))
    return torch.stack(lengths), torch.stack(errors)
