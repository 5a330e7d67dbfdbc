"""Units of explanation: the entries of a record in a few groups, such as patches of an image or windows of a signal.

How a user names groups is in ``named_groups``.
"""

import math

import torch
from torch import Tensor

from assay.explain.base import ExplanationError
from assay.explain.named_groups import CORRELATED, Groups, NamedGroups, named_after_columns, named_places
from assay.explain.references import Reference


def grouped(x: Tensor, reference: Reference, groups: Groups) -> Tensor:
    """Returns the group of each entry of records; padding has none.

    A number of groups makes neighbours share one. Groups are then: of a table, its columns, or runs of neighbouring
    columns where there are more; of an image, patches, with all channels; of a signal, windows, with all leads; of a
    text, words, or runs of words.

    Args:
        x: (n, ...) records.
        reference: says what is padding, and which columns a table has.
        groups: the greatest number of groups, groups with names, or ``correlated``.

    Returns:
        (n, ...) group numbers from 0, int64; −1 for padding.

    Raises:
        ExplanationError: there is no room for a group, or correlated columns are unknown.
        SpecError: named groups do not fit the records.
    """
    shape = tuple(x.shape[1:])
    named = resolved(groups, reference)
    if named is not None:
        place, _ = named_places(named, shape, reference.modality, reference.columns_of(shape))
        return place.to(x.device).expand_as(x)
    assert isinstance(groups, int)
    most = groups
    if most < 1:
        raise ExplanationError(f"{most} groups: at least one is needed")
    if reference.modality == "image" and len(shape) == 3:
        return _patches(shape, most).to(x.device).expand_as(x)
    if reference.modality == "signal" and len(shape) == 2:
        return _runs(shape[1], most).to(x.device).expand_as(x)
    if reference.modality == "text":
        return _words(x, reference, most)
    columns = reference.columns_of(shape)
    if columns:  # the inputs of a category stay together
        names = list(dict.fromkeys(columns))
        return _runs(len(names), most)[[names.index(one) for one in columns]].to(x.device).expand_as(x)
    return _runs(math.prod(shape), most).view(shape).to(x.device).expand_as(x)


def resolved(groups: Groups, reference: Reference) -> NamedGroups | None:
    """Returns groups with names, those of correlated columns included.

    Args:
        groups: the setting.
        reference: with the correlated columns of the population.

    Returns:
        The groups; None where the setting is a number.

    Raises:
        ExplanationError: the records are no table, or no training records may be read.
    """
    if groups != CORRELATED:
        return groups if isinstance(groups, NamedGroups) else None
    if reference.modality != "tabular":
        raise ExplanationError(f"groups: {CORRELATED} are columns of a table; these records are {reference.modality}")
    if reference.correlated is None:
        raise ExplanationError(
            f"groups: {CORRELATED} are read from training records, which do not serve here: name the groups instead"
        )
    return named_after_columns(reference.correlated)


def group_names(groups: Groups, reference: Reference, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the names of groups by their number.

    Args:
        groups: the setting.
        reference: with the columns of a table.
        shape: of a record.

    Returns:
        The names; empty where the setting is a number.
    """
    named = resolved(groups, reference)
    return () if named is None else named_places(named, shape, reference.modality, reference.columns_of(shape))[1]


def by_group(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Returns the value of each group: the sum of those of its entries.

    Args:
        values: (n, ...) of the entries.
        groups: (n, ...) group numbers; −1 for padding.
        count: number of groups.

    Returns:
        (n, count) float64.
    """
    flat = groups.flatten(1)
    total = torch.zeros(len(values), count, dtype=torch.float64, device=values.device)
    return total.scatter_add_(1, flat.clamp_min(0), values.flatten(1).double() * (flat >= 0))


def group_count(groups: Tensor) -> int:
    """Returns the number of groups, the greatest of all records.

    Args:
        groups: (n, ...) group numbers from 0; −1 for padding.

    Returns:
        The count; 0 where records are padding alone.
    """
    return int(groups.amax()) + 1


def spread(by_group: Tensor, groups: Tensor) -> Tensor:
    """Returns the value of each group in equal parts at its entries, so that they add up to it.

    Args:
        by_group: (n, groups) values.
        groups: (n, ...) group numbers; −1 for padding, which gets 0.

    Returns:
        (n, ...) values.
    """
    flat = groups.flatten(1)
    known = flat.clamp_min(0)
    sizes = torch.zeros_like(by_group).scatter_add(1, known, (flat >= 0).to(by_group))
    parts = by_group / sizes.clamp_min(1)
    return (parts.gather(1, known) * (flat >= 0)).view(groups.shape)


def _runs(length: int, most: int) -> Tensor:
    """Returns ``length`` positions in at most ``most`` runs of about equal length."""
    count = min(length, most)
    return torch.arange(length) * count // length


def _patches(shape: tuple[int, ...], most: int) -> Tensor:
    """Returns the patch of each pixel, in a grid of at most ``most`` that is about as wide as high."""
    height, width = shape[-2:]
    rows = max(1, min(height, math.isqrt(most)))
    columns = max(1, min(width, most // rows))
    return (_runs(height, rows)[:, None] * columns + _runs(width, columns)[None]).view(1, height, width)


def _words(x: Tensor, reference: Reference, most: int) -> Tensor:
    present = reference.present(x)
    assert present is not None
    here = present.squeeze(-1)
    count = here.sum(1, keepdim=True)
    place = here.cumsum(1) - 1
    groups = torch.where(count > most, place * most // count.clamp_min(1), place)
    return groups.masked_fill(~here, -1).unsqueeze(-1).expand_as(x)
