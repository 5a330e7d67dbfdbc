"""Is a map faithful? Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421), feature by feature."""

import torch
from torch import Tensor, nn

from assay.models.batches import respond
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION

_STEPS = 50
"""Points of a curve, where there are as many features."""


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
    """Mean probability of the target while features are replaced, highest score first, (n,). Low is faithful.

    Args:
        scores: broadcasts to ``x``; entries that share a score, such as those of one word's vector, go together.
        features: in the shape of ``scores``, which of them stand for something; padding does not. All by default.
        task: turns answers into probabilities.
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
    """Mean probability of the target while features are restored, highest score first, (n,). High is faithful."""
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
    # Every record's curve ends at its own last feature: a short text is not judged by the padding behind it.
    count = real.flatten(1).sum(1).view(-1, *[1] * (scores.dim() - 1))
    shares = torch.linspace(0, 1, min(order.shape[1], _STEPS) + 1, dtype=torch.float64, device=x.device)
    seen: list[Tensor] = []
    before = torch.full_like(count, -1, dtype=torch.float64)
    for share in shares:
        replaced = (share * count).round()
        # A record of few features is the same at several shares: a text of 19 words has 20 states, not 51.
        new = (replaced != before).flatten(1).any(1)
        known = seen[-1].clone() if seen else torch.zeros(len(x), dtype=x.dtype, device=x.device)
        if bool(new.any()):
            mixed = torch.where(rank[new] < replaced[new], end[new], begin[new])
            probabilities = task.probabilities(respond(model, mixed))
            known[new] = probabilities.gather(1, target[new, None]).squeeze(1).to(known)
        seen.append(known)
        before = replaced
    return torch.trapezoid(torch.stack(seen), dx=1 / (len(seen) - 1), dim=0)
