"""Does a map depend on what was learnt? Its likeness to maps of other networks on the same records.

Maps of two networks that the same recipe trained from other seeds should be more alike than maps of a trained network
and of one with random weights (after Adebayo et al. 2018, arXiv:1810.03292). A fixed limit of likeness says little:
gradients that are multiplied by the same input agree by one half with no relation between the networks.
"""

import copy

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Returns the network with every weight drawn again, at its scale.

    Args:
        model: trained; not changed.
        seed: of the drawing.

    Returns:
        The network.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            scale = float(parameter.std()) if parameter.numel() > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator).to(parameter) * (scale or 1.0))
    return other


def rank_agreement(one: Tensor, other: Tensor, features: Tensor | None) -> np.ndarray:
    """Returns Spearman's correlation of the absolute attributions of each record.

    Args:
        one: (n, ...) values by feature.
        other: (n, ...) values by feature.
        features: (n, ...) which of them are real; all by default.

    Returns:
        (n,) correlations; 0 where a map is constant.
    """
    sizes = [values.detach().flatten(1).abs().cpu().numpy() for values in (one, other)]
    if features is None:
        return _spearman(*sizes)
    real = features.flatten(1).cpu().numpy()
    return np.array([_spearman(*(values[i][None, real[i]] for values in sizes))[0] for i in range(len(real))])


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the rank correlation of each row, (n,); 0 where a row is constant."""
    ranks = [rankdata(values, axis=1) for values in (one, other)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return (centred[0] * centred[1]).sum(1) / np.maximum(scale, 1e-12)
