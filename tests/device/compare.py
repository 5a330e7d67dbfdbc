"""How far the tensors of two devices are apart."""

from collections.abc import Mapping

import torch
from torch import Tensor


def apart(found: Tensor, expected: Tensor) -> float:
    """Returns the greatest difference of two tensors, on the scale of the greatest entry of the expected one.

    Args:
        found: on any device.
        expected: on any device, of the same shape.

    Returns:
        The difference; infinite where shapes or what is finite differ.
    """
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    if found.shape != expected.shape or not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    finite = expected.isfinite()
    if not bool(finite.any()):
        return 0.0
    scale = max(1e-3, float(expected[finite].abs().max()))
    return float((found - expected)[finite].abs().max()) / scale


def farthest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, float]:
    """Returns the name of the tensor that differs most, and by how much; see ``apart``.

    Args:
        found: tensors by name.
        expected: tensors by name.

    Returns:
        Name and difference; infinite for a tensor that one of the two lacks.
    """
    if found.keys() != expected.keys():
        return ", ".join(sorted(found.keys() ^ expected.keys())), float("inf")
    by_name = {name: apart(found[name], expected[name]) for name in expected}
    name = max(by_name, key=lambda name: by_name[name])
    return name, by_name[name]
