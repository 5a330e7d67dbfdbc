"""Gradients with respect to the records."""

import torch
from torch import Tensor


def input_gradient(values: Tensor, point: Tensor, *, weights: Tensor | None = None, again: bool = False) -> Tensor:
    """Returns the gradient of a sum of values with respect to a point.

    It is zero where the values do not depend on the point: a model without a gradient is a finding, not an error.

    Args:
        values: computed from ``point``.
        point: (n, ...) requires a gradient.
        weights: of the sum, in the shape of ``values``; 1 by default.
        again: whether the graph is kept, so that gradients of other values of this forward pass can be computed.

    Returns:
        The gradient, in the shape of ``point``.
    """
    if not values.requires_grad:
        return torch.zeros_like(point)
    given = torch.ones_like(values) if weights is None else weights
    try:
        (gradient,) = torch.autograd.grad(
            values, point, given, retain_graph=again, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        # PyTorch has no derivative of some functions, such as floor_divide.
        if "derivative for" not in str(error):
            raise
        return torch.zeros_like(point)
    return gradient
