"""The gradient that an attack follows."""

import torch
from torch import Tensor


def input_gradient(values: Tensor, point: Tensor, *, weights: Tensor | None = None, again: bool = False) -> Tensor:
    """Gradient of ``values``, summed (or weighted, in their own shape), by ``point``; shaped as ``point``.

    Other values of the same forward pass can be asked about after it where ``again`` is set.

    Zeros where nothing leads back to the point: a model that lets no gradient through is no error, it is a finding.
    """
    if not values.requires_grad:
        return torch.zeros_like(point)
    given = torch.ones_like(values) if weights is None else weights
    try:
        (gradient,) = torch.autograd.grad(
            values, point, given, retain_graph=again, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        # Of some functions, such as floor_divide, PyTorch has no derivative at all.
        if "derivative for" not in str(error):
            raise
        return torch.zeros_like(point)
    return gradient
