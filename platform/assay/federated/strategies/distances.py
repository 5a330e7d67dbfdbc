"""Distances between updates, and the scores of Krum (Blanchard et al. 2017, arXiv:1703.02757)."""

import torch
from torch import Tensor


def squared_distances(updates: Tensor) -> Tensor:
    """Returns the squared distances between all pairs, as sums of squared differences.

    ‖x‖² + ‖y‖² - 2xy would be faster, and of similar updates nothing but rounding: it can be negative.

    Args:
        updates: (m, d) float64.

    Returns:
        (m, m), symmetric, 0 on the diagonal.
    """
    return torch.stack([(updates - update).square().sum(dim=1) for update in updates])


def krum_scores(distances: Tensor, *, neighbours: int) -> Tensor:
    """Returns for each update the sum of the squared distances to its nearest others.

    Args:
        distances: (m, m) squared distances.
        neighbours: number of others that count.

    Returns:
        (m,) scores; the smaller, the more central.
    """
    others = distances.clone().fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)
