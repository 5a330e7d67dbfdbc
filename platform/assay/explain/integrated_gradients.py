"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) by Gauss-Legendre quadrature.

Sixteen Gauss points are as accurate as fifty to a hundred equal steps, at a third of the cost.
"""

import numpy as np
import torch
from torch import Tensor, nn

from assay.explain.base import Attribution
from assay.models.batches import places
from assay.models.recurrent import differentiable


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Tensor, *, baseline: Tensor, points: int = 16
) -> Attribution:
    """Attributes each record's target logit to its inputs, along the straight line from the baseline.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class whose logit is explained.
        baseline: the neutral input, broadcasts to ``x``.
        points: number of quadrature points.

    Returns:
        The attribution with its completeness error, in logits.
    """
    start = baseline.to(x).expand_as(x)
    with differentiable(model):
        parts = [
            _attribute(model, x[place], target[place], start[place], points)
            for place in places(len(x), tuple(x.shape[1:]))
        ]
    return Attribution(values=torch.cat([p.values for p in parts]), error=torch.cat([p.error for p in parts]))


def blank_words(x: Tensor) -> Tensor:
    """Returns the baseline for word vectors: nearly 0 for words, exactly 0 for padding.

    Args:
        x: (n, length, dimension) word vectors.

    Returns:
        (n, length, dimension) baseline.
    """
    return 1e-6 * x


def _attribute(model: nn.Module, x: Tensor, target: Tensor, start: Tensor, points: int) -> Attribution:
    """Computes the attribution of one batch."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = torch.zeros_like(x)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (start + float(node) * (x - start)).detach().requires_grad_(True)
        with torch.enable_grad():
            logit = model(point).gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(logit, point)
        total += float(weight) * gradient
    values = total * (x - start)
    with torch.no_grad():
        rise = (model(x) - model(start)).gather(1, target[:, None]).squeeze(1)
    return Attribution(values=values, error=(values.flatten(1).sum(1) - rise).abs())
