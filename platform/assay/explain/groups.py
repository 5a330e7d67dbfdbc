"""Units of explanation: the entries of a record in a few groups, such as patches of an image or windows of a signal."""

import math

import torch
from torch import Tensor

from assay.explain.base import ExplanationError
from assay.explain.references import Reference


def grouped(x: Tensor, reference: Reference, most: int) -> Tensor:
    """Returns the group of each entry of records: neighbours share one, and padding has none.

    Groups are: of a table, its columns, or runs of neighbouring columns where there are more than ``most``; of an
    image, patches, with all channels; of a signal, windows, with all leads; of a text, words, or runs of words.

    Args:
        x: (n, ...) records.
        reference: says what is padding.
        most: greatest number of groups.

    Returns:
        (n, ...) group numbers from 0, int64; −1 for padding.

    Raises:
        ExplanationError: there is no room for a group.
    """
    if most < 1:
        raise ExplanationError(f"{most} groups: at least one is needed")
    shape = tuple(x.shape[1:])
    if reference.modality == "image" and len(shape) == 3:
        return _patches(shape, most).to(x.device).expand_as(x)
    if reference.modality == "signal" and len(shape) == 2:
        return _runs(shape[1], most).to(x.device).expand_as(x)
    if reference.modality == "text":
        return _words(x, reference, most)
    return _runs(math.prod(shape), most).view(shape).to(x.device).expand_as(x)


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
