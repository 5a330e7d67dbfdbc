"""The best order that is known for a record, by a greedy search: the scale on which gains of maps are read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.explain.groups import group_count, grouped
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.replacements.base import Fill
from assay.explain.scalars import log_odds
from assay.models.batches import respond

_ENTRIES = 2**22
"""Entries of the records that are tried at once."""
GROUPS = 30
"""Usual greatest number of groups of features that the search moves together."""


@torch.no_grad()
def greedy_maps(records: MeasuredRecords, fill: Fill, *, most: int = GROUPS) -> list[Tensor]:
    """Returns the maps of two greedy searches: one removes group after group, the other restores them.

    At each step the first removes the group without which the log-odds are lowest, and the second restores the group
    with which they are highest. It asks the model G(G + 1)/2 times for each record and search. No order is proved to be
    the best one, so the oracle of a map is the best of these and of the map itself.

    Args:
        records: with the model.
        fill: how features are removed.
        most: greatest number G of groups.

    Returns:
        Two maps (n, ...) by feature: the group that is taken first has the greatest value.
    """
    groups = _by_feature(grouped(records.x, records.reference, most), records)
    return [_greedy(records, fill, groups, removes=removes) for removes in (True, False)]


def best_of(scores: Sequence[Tensor]) -> Tensor:
    """Returns the greatest score of each record.

    Args:
        scores: (n,) of each map, higher is better.

    Returns:
        (n,) scores.
    """
    return torch.stack(list(scores)).amax(0)


def _greedy(records: MeasuredRecords, fill: Fill, groups: Tensor, *, removes: bool) -> Tensor:
    count, n = group_count(groups), len(groups)
    left = torch.stack([(groups == number).flatten(1).any(1) for number in range(count)], dim=1)
    removed = torch.zeros_like(groups, dtype=torch.bool) if removes else groups >= 0
    most_rows = max(1, _ENTRIES // records.x[0].numel())
    order = torch.zeros(n, count, dtype=records.x.dtype, device=groups.device)
    for step in range(count):
        row, group = left.nonzero(as_tuple=True)
        if not len(row):
            break
        here = groups[row] == group.view(-1, *[1] * (groups.dim() - 1))
        tried = (removed[row] | here) if removes else (removed[row] & ~here)
        answers = torch.cat(
            [
                log_odds(respond(records.reader, fill(part, tried[place])), records.target[part])
                for part, place in zip(row.split(most_rows), torch.arange(len(row)).split(most_rows), strict=True)
            ]
        ).double()
        worth = torch.full((n, count), -torch.inf, dtype=torch.float64, device=groups.device)
        worth[row, group] = -answers if removes else answers
        rows = left.any(1).nonzero().squeeze(1)
        taken = worth.max(1).indices
        order[rows, taken[rows]] = float(count - step)
        left[rows, taken[rows]] = False
        chosen = (groups == taken.view(-1, *[1] * (groups.dim() - 1))) & (worth.amax(1) > -torch.inf).view(
            -1, *[1] * (groups.dim() - 1)
        )
        removed = (removed | chosen) if removes else (removed & ~chosen)
    found = order.gather(1, groups.flatten(1).clamp_min(0)) * (groups.flatten(1) >= 0)
    return found.view(groups.shape)


def _by_feature(groups: Tensor, records: MeasuredRecords) -> Tensor:
    """Returns the group of each feature: entries of a feature share one."""
    for axis, (wide, narrow) in enumerate(zip(groups.shape, records.features.shape, strict=True)):
        if wide != narrow:
            groups = groups.narrow(axis, 0, 1)
    return groups
