"""Faithfulness of an attribution: deletion and insertion of features (Petsiuk et al. 2018, arXiv:1806.07421)."""

import torch
from torch import Tensor, nn

from assay.models.batches import respond
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION

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
    features: Tensor | None = None,
    task: Task = CLASSIFICATION,
) -> Tensor:
    """Returns the mean probability of the target while features are replaced, highest score first. Low is faithful.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class whose probability is measured.
        scores: broadcasts to ``x``; entries that share a score, such as those of one word's vector, are replaced
            together.
        replacement: of features, broadcasts to ``x``.
        features: in the shape of ``scores``, which of them are real; padding is not. All by default.
        task: turns outputs into probabilities.

    Returns:
        (n,) areas under the curves, from 0 to 1.
    """
    return _curve(model, x, target, scores, features, begin=x, end=replacement.to(x).expand_as(x), task=task)


@torch.no_grad()
def insertion(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    *,
    replacement: Tensor,
    features: Tensor | None = None,
    task: Task = CLASSIFICATION,
) -> Tensor:
    """Returns the mean probability of the target while features are restored, highest score first. High is faithful.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class whose probability is measured.
        scores: see ``deletion``.
        replacement: of features, broadcasts to ``x``; each curve starts with all features replaced.
        features: see ``deletion``.
        task: turns outputs into probabilities.

    Returns:
        (n,) areas under the curves, from 0 to 1.
    """
    return _curve(model, x, target, scores, features, begin=replacement.to(x).expand_as(x), end=x, task=task)


def _curve(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    features: Tensor | None,
    *,
    begin: Tensor,
    end: Tensor,
    task: Task,
) -> Tensor:
    real = torch.ones_like(scores, dtype=torch.bool) if features is None else features
    order = scores.masked_fill(~real, -torch.inf).flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).view_as(scores)
    # The curve of a record ends at its own last feature: the padding of a short text does not count.
    count = real.flatten(1).sum(1).view(-1, *[1] * (scores.dim() - 1))
    shares = torch.linspace(0, 1, min(order.shape[1], _STEPS) + 1, dtype=torch.float64, device=x.device)
    seen: list[Tensor] = []
    before = torch.full_like(count, -1, dtype=torch.float64)
    for share in shares:
        replaced = (share * count).round()
        # Records with few features repeat some states: a text of 19 words has 20 states, not 51.
        new = (replaced != before).flatten(1).any(1)
        current = seen[-1].clone() if seen else torch.zeros(len(x), dtype=x.dtype, device=x.device)
        if bool(new.any()):
            mixed = torch.where(rank[new] < replaced[new], end[new], begin[new])
            probabilities = task.probabilities(respond(model, mixed))
            current[new] = probabilities.gather(1, target[new, None]).squeeze(1).to(current)
        seen.append(current)
        before = replaced
    return torch.trapezoid(torch.stack(seen), dx=1 / (len(seen) - 1), dim=0)
