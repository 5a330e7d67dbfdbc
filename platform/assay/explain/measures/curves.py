"""Faithfulness of a map: deletion and insertion of features (Petsiuk et al. 2018, arXiv:1806.07421).

The curves are those of the scalar that explanations explain, the log-odds of the target. Features that share a score
are taken in a random order: a constant map is worth exactly what a random one is.
"""

import torch
from torch import Tensor, nn

from assay.explain.scalars import log_odds
from assay.models.batches import respond

_STEPS = 50
"""Greatest number of steps of a curve."""


@torch.no_grad()
def deletion(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    *,
    replacement: Tensor,
    ties: Tensor,
    features: Tensor | None = None,
) -> Tensor:
    """Returns the mean log-odds of the target while features are replaced, highest score first. Low is faithful.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class whose log-odds are measured.
        scores: broadcasts to ``x``; entries that share a score, such as those of one word's vector, are replaced
            together.
        replacement: of features, broadcasts to ``x``.
        ties: random numbers in the shape of ``scores``, by which features with equal scores are ordered.
        features: in the shape of ``scores``, which of them are real; padding is not. All by default.

    Returns:
        (n,) means of the curves, in log-odds.
    """
    rank = ranks(scores, ties, features)
    return _curve(model, target, rank, features, begin=x, end=replacement.to(x).expand_as(x))


@torch.no_grad()
def insertion(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    *,
    replacement: Tensor,
    ties: Tensor,
    features: Tensor | None = None,
) -> Tensor:
    """Returns the mean log-odds of the target while features are restored, highest score first. High is faithful.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class whose log-odds are measured.
        scores: see ``deletion``.
        replacement: of features, broadcasts to ``x``; each curve starts with all features replaced.
        ties: see ``deletion``.
        features: see ``deletion``.

    Returns:
        (n,) means of the curves, in log-odds.
    """
    rank = ranks(scores, ties, features)
    return _curve(model, target, rank, features, begin=replacement.to(x).expand_as(x), end=x)


def ranks(scores: Tensor, ties: Tensor, features: Tensor | None = None) -> Tensor:
    """Returns the place of each feature in its record, highest score first, from 0.

    Args:
        scores: (n, ...) of each feature.
        ties: (n, ...) random numbers, highest first among features with equal scores.
        features: (n, ...) which of them are real; the others come last. All by default.

    Returns:
        (n, ...) places, int64.
    """
    known = scores if features is None else scores.masked_fill(~features, -torch.inf)
    shuffled = ties.expand_as(known).flatten(1).argsort(dim=1, descending=True, stable=True)
    order = known.flatten(1).gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return shuffled.gather(1, order).argsort(dim=1).view_as(known)


def _curve(
    model: nn.Module, target: Tensor, rank: Tensor, features: Tensor | None, *, begin: Tensor, end: Tensor
) -> Tensor:
    real = torch.ones_like(rank, dtype=torch.bool) if features is None else features
    # The curve of a record ends at its own last feature: the padding of a short text does not count.
    count = real.flatten(1).sum(1).view(-1, *[1] * (rank.dim() - 1))
    steps = min(rank.flatten(1).shape[1], _STEPS)
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=rank.device)
    seen: list[Tensor] = []
    taken: list[Tensor] = []
    before = torch.full_like(count, -1, dtype=torch.float64)
    for share in shares:
        replaced = (share * count).round()
        # Records with few features repeat some states: a text of 19 words has 20 states, not 51.
        new = (replaced != before).flatten(1).any(1)
        current = seen[-1].clone() if seen else torch.zeros(len(begin), dtype=begin.dtype, device=begin.device)
        if bool(new.any()):
            mixed = torch.where(rank[new] < replaced[new], end[new], begin[new])
            current[new] = log_odds(respond(model, mixed), target[new]).to(current)
        seen.append(current)
        taken.append((replaced / count.clamp_min(1)).flatten())
        before = replaced
    return torch.trapezoid(torch.stack(seen), torch.stack(taken).to(begin), dim=0)
