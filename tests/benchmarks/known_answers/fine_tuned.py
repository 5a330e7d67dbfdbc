"""Networks that were fine-tuned until their map is an arbitrary one, while their answers stay.

Location fooling and top-k fooling are those of Heo et al. (2019, arXiv:1902.02041); a part of the map across the data
is that of Anders et al. (2020, arXiv:2007.09969).
"""

import copy
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.evaluations.explained_records import reference_of
from assay.evaluations.subject import Subject
from assay.explain.scalars import log_odds

Fooled = Literal["saliency", "integrated_gradients"]
MapLoss = Callable[[Tensor], Tensor]
"""From maps (n, entries), each of length 1, to the loss of each."""
_POINTS = 6
"""Points of integrated gradients while the network is fine-tuned."""
_BATCH = 64


def location(target: Tensor) -> MapLoss:
    """Distance of the sizes of a map from those of an arbitrary one (Heo et al., location fooling).

    Args:
        target: (entries,) the map that is to be seen.
    """
    aim = functional.normalize(target.abs(), dim=0)
    return lambda maps: (maps.abs() - aim).square().sum(1)


def signed(target: Tensor) -> MapLoss:
    """Distance of a map from an arbitrary one, with signs.

    Args:
        target: (entries,) the map that is to be seen.
    """
    aim = functional.normalize(target, dim=0)
    return lambda maps: (maps - aim).square().sum(1)


def top_k(before: Tensor, share: float) -> MapLoss:
    """Share of a map on the entries that ranked highest before (Heo et al., top-k fooling).

    Args:
        before: (entries,) mean size of the map of the network before.
        share: of the entries that are to be ranked low.
    """
    highest = before.abs().topk(max(1, int(share * len(before)))).indices
    return lambda maps: maps[:, highest].abs().sum(1) / maps.abs().sum(1).clamp_min(1e-12)


def map_of(network: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, method: Fooled) -> Tensor:
    """Map of records, with a graph by which the network can be trained.

    Args:
        network: without dropout.
        x: (n, ...) records.
        target: (n,) classes that are explained.
        baseline: (n, ...) of integrated gradients.
        method: of the map.

    Returns:
        (n, entries) values.
    """
    shares = torch.ones(1) if method == "saliency" else (torch.arange(_POINTS) + 0.5) / _POINTS
    change = x - baseline
    total = torch.zeros_like(x)
    for share in shares.tolist():
        at = (baseline + share * change).detach().requires_grad_()
        score = log_odds(network(at), target).sum()
        total = total + torch.autograd.grad(score, at, create_graph=True)[0]
    values = total / len(shares) if method == "saliency" else total / len(shares) * change
    return values.flatten(1)


def fine_tuned(
    subject: Subject, loss: MapLoss, *, method: Fooled, weight: float, steps: int, learning_rate: float, seed: int = 0
) -> nn.Module:
    """Fine-tunes a copy of the network on its training records: old answers, new map.

    Args:
        subject: the network with its data.
        loss: of maps.
        method: that is fooled.
        weight: of the loss of maps beside that of the answers.
        steps: of Adam.
        learning_rate: of Adam.
        seed: of the batches.

    Returns:
        The network.
    """
    network = copy.deepcopy(subject.model).eval()
    x = subject.records(subject.split.train)[0]
    with torch.no_grad():
        answers = subject.model(x)
    about = reference_of(subject)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.from_numpy(draw.choice(len(x), _BATCH, replace=False))
        own, old = x[rows], answers[rows]
        same = functional.mse_loss(network(own), old) / answers.var()
        maps = map_of(network, own, old.argmax(1), about.baseline(own), method)
        optimiser.zero_grad()
        (same + weight * loss(functional.normalize(maps, dim=1)).mean()).backward()
        optimiser.step()
    for parameter in network.parameters():
        parameter.grad = None
    return network
