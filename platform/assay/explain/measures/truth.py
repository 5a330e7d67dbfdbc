"""Maps against a known truth: how much of a map lies on the features on which the class is known to depend.

Relevance mass and rank accuracy are those of CLEVR-XAI (Arras et al. 2022, arXiv:2003.07258), the pointing game that of
Zhang et al. (2018, arXiv:1608.00507). The relevance of a feature is the size of its value: evidence for and against the
class both lie on the truth. Each measure gives one number a record, which depends on this record alone, and NaN where
nothing can be said: the map is empty (0 at every feature), or the truth is. Features with equal values are in no order:
the result is the expectation over their random orders. Nothing is changed in place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class KnownMean:
    """Mean over the records of which something can be said, and how many those are."""

    value: float
    """NaN where nothing can be said of any record."""
    n: int
    """Records in the mean."""
    left_out: int
    """Records with an empty map or an empty truth."""


def known_mean(of_records: Tensor) -> KnownMean:
    """Returns the mean of a measure, and the number of records that it leaves out.

    Args:
        of_records: (n,) of a measure; NaN for a record that is left out.

    Returns:
        The mean with its counts.
    """
    known = of_records[~of_records.isnan()]
    value = float(known.double().mean()) if len(known) else float("nan")
    return KnownMean(value=value, n=len(known), left_out=len(of_records) - len(known))


def relevance_mass(values: Tensor, truth: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the share of the relevance that lies on the truth.

    Args:
        values: (n, ...) contributions by feature, of any sign.
        truth: (n, ...) bool, in the shape of ``values``: which features the class depends on.
        features: (n, ...) which of them are real; padding is not. All by default.

    Returns:
        (n,) float64 in 0 … 1; NaN where map or truth is empty.
    """
    sizes, inside, _ = _flat(values, truth, features)
    share = (sizes * inside).sum(1) / sizes.sum(1).clamp_min(torch.finfo(sizes.dtype).tiny)
    return _known(share, sizes, inside)


def enrichment(values: Tensor, truth: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the share of the relevance on the truth, divided by the share of the features that are in the truth.

    A uniform map scores 1 whatever the size of the truth; a map that lies on the truth alone scores 1 ÷ its share.

    Args:
        values: (n, ...) contributions by feature, of any sign.
        truth: see ``relevance_mass``.
        features: see ``relevance_mass``.

    Returns:
        (n,) float64, 0 or more; NaN where map or truth is empty.
    """
    _, inside, real = _flat(values, truth, features)
    return relevance_mass(values, truth, features) / (inside.sum(1).double() / real.sum(1).clamp_min(1))


def relevance_rank(values: Tensor, truth: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the share of the K most relevant features that are in the truth, which has K features.

    Args:
        values: (n, ...) contributions by feature, of any sign.
        truth: see ``relevance_mass``.
        features: see ``relevance_mass``.

    Returns:
        (n,) float64 in 0 … 1, in expectation over the order of equal values; NaN where map or truth is empty.
    """
    sizes, inside, real = _flat(values, truth, features)
    wanted = inside.sum(1, keepdim=True).long()
    order = sizes.masked_fill(~real, -torch.inf).sort(dim=1, descending=True).values
    edge = order.gather(1, (wanted - 1).clamp_min(0))
    above, level = (sizes > edge) & real, (sizes == edge) & real
    room = (wanted.squeeze(1) - above.sum(1)).double() / level.sum(1).clamp_min(1)
    hits = (above & inside).sum(1) + room * (level & inside).sum(1)
    return _known(hits / wanted.squeeze(1).clamp_min(1), sizes, inside)


def pointing_game(values: Tensor, truth: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns whether the most relevant feature is in the truth.

    Args:
        values: (n, ...) contributions by feature, of any sign.
        truth: see ``relevance_mass``.
        features: see ``relevance_mass``.

    Returns:
        (n,) float64: 1 for a hit and 0 for a miss, or the share of the greatest values that are hits where several are
        equal; NaN where map or truth is empty.
    """
    sizes, inside, real = _flat(values, truth, features)
    top = (sizes == sizes.amax(1, keepdim=True)) & real
    return _known((top & inside).sum(1).double() / top.sum(1).clamp_min(1), sizes, inside)


def average_precision(values: Tensor, truth: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the area under the curve of precision against recall (AUPRC), of finding the truth by relevance.

    It is the mean, over the features of the truth, of the share of the truth among the features up to each one. In a
    run of t equal values with p features of the truth, after N features with P of the truth, a feature of the truth is
    at each place j with probability 1/t, and (j − 1)(p − 1)/(t − 1) others are expected before it.

    Args:
        values: (n, ...) contributions by feature, of any sign.
        truth: see ``relevance_mass``.
        features: see ``relevance_mass``.

    Returns:
        (n,) float64 in 0 … 1, in expectation over the order of equal values; NaN where map or truth is empty.
    """
    sizes, inside, real = _flat(values, truth, features)
    found = [_average_precision(sizes[row, real[row]], inside[row, real[row]]) for row in range(len(sizes))]
    return _known(torch.stack(found) if found else sizes.new_zeros(0), sizes, inside)


def _average_precision(sizes: Tensor, inside: Tensor) -> Tensor:
    """Returns the expected average precision of one record, a scalar; 0 where nothing is in the truth."""
    _, run, length = torch.unique(-sizes, return_inverse=True, return_counts=True)
    hits = torch.zeros(len(length), dtype=torch.float64, device=sizes.device).scatter_add(0, run, inside.double())
    # For each place of the order: the run that it is in, its place within, and what comes before the run.
    of_place = torch.arange(len(length), device=sizes.device).repeat_interleave(length)
    before, hits_before = length.cumsum(0) - length, hits.cumsum(0) - hits
    within = torch.arange(len(sizes), device=sizes.device) - before[of_place]
    others = within.double() * (hits - 1).clamp_min(0)[of_place] / (length - 1).clamp_min(1)[of_place]
    precision = (hits_before[of_place] + others + 1) / (before[of_place] + within + 1)
    return (precision * (hits / length)[of_place]).sum() / hits.sum().clamp_min(1)


def _flat(values: Tensor, truth: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns sizes of the values (0 where no feature is), the truth among real features, and these; all (n, k)."""
    if truth.shape != values.shape:
        raise ValueError(
            f"a truth of shape {tuple(truth.shape)} for maps of shape {tuple(values.shape)}: give both by feature "
            "(Reference.by_feature)"
        )
    real = torch.ones_like(truth) if features is None else features.expand_as(truth)
    sizes = values.detach().double().abs() * real
    return sizes.flatten(1), (truth & real).flatten(1), real.flatten(1)


def _known(of_records: Tensor, sizes: Tensor, inside: Tensor) -> Tensor:
    said = (sizes > 0).any(1) & inside.any(1)
    return torch.where(said, of_records.double(), torch.nan)
