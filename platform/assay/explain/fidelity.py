"""Is a map faithful? Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421), feature by feature."""

import torch
from torch import Tensor, nn

from assay.models.batches import respond


@torch.no_grad()
def deletion(model: nn.Module, x: Tensor, target: Tensor, scores: Tensor, *, replacement: Tensor) -> Tensor:
    """Mean probability of the target while features are replaced, highest score first, (n,). Low is faithful.

    Args:
        scores: broadcasts to ``x``; entries that share a score, such as those of one word's vector, go together.
    """
    return _curve(model, x, target, scores, begin=x, end=replacement.to(x).expand_as(x))


@torch.no_grad()
def insertion(model: nn.Module, x: Tensor, target: Tensor, scores: Tensor, *, replacement: Tensor) -> Tensor:
    """Mean probability of the target while features are restored, highest score first, (n,). High is faithful."""
    return _curve(model, x, target, scores, begin=replacement.to(x).expand_as(x), end=x)


def _curve(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    *,
    begin: Tensor,
    end: Tensor,
    most_steps: int = 50,
) -> Tensor:
    order = scores.flatten(1).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1).view_as(scores)
    features = order.shape[1]
    steps = torch.linspace(0, features, min(features, most_steps) + 1).round().long().tolist()
    seen = [
        respond(model, torch.where(rank < k, end, begin)).softmax(1).gather(1, target[:, None]).squeeze(1)
        for k in steps
    ]
    return torch.trapezoid(torch.stack(seen), dx=1 / (len(seen) - 1), dim=0)
