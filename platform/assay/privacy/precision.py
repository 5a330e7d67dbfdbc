"""In which precision lengths and sums of gradients are computed, whatever the network itself computes in.

A clipped sum that is rounded to bfloat16 moves by several clipping norms when one record is added, for the rounding
grows with the sum and not with what one record adds to it. So halves are widened to float32, small sums are formed in
float64, squared lengths add up in float64, and neither autocast nor the short products of TF32 act on them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from assay.errors import IncompatibleRecipeError

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float64, torch.float32, *HALVES)
"""Types of weights for which the bound on what one record adds is tested."""
EXACT = 2**17
"""Numbers that enter a sum, at most, for it to be formed in float64: that costs little for small layers."""
EXACT_PRODUCTS = 2**22
"""The same of the products that are added."""
KEPT_EXACTLY = 2**16
"""Halves in a parameter, at most, whose sums are kept in float64: rounding to float32 grows with the sum, too."""
_RUN = 512
"""Squares that are added in the precision of the gradient before float64 goes on."""


def refuse_types(parameters: dict[Tensor, str]) -> None:
    """Refuse weights of a type in which the bound on what one record adds has not been shown.

    Args:
        parameters: trainable ones, each with its name.

    Raises:
        IncompatibleRecipeError: names the parameter and its type.
    """
    for parameter, name in parameters.items():
        if parameter.dtype not in DTYPES:
            allowed = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
            given = str(parameter.dtype).removeprefix("torch.")
            raise IncompatibleRecipeError(
                f"parameter {name!r} is {given}: private training bounds what one record adds for weights of "
                f"{', '.join(allowed)} alone; convert the model, as by model.float(), or freeze this parameter",
                setting=name,
                given=given,
                allowed=allowed,
            )


def at_least_float32(tensor: Tensor) -> Tensor:
    """In float32 at least where it is a half: lengths of gradients need the range and the digits."""
    return tensor.float() if tensor.dtype in HALVES else tensor


def summing_type(parameter: Tensor) -> torch.dtype:
    """The type in which sums of its gradients are kept: by the parameter alone, so that all workers agree.

    That of the parameter, and of a half float64 where it is small: what a sum of n records is rounded by is n times
    what one is rounded by, at most 2⁻²⁴ of the sum's length in float32.
    """
    if parameter.dtype not in HALVES:
        return parameter.dtype
    is_small = parameter.numel() <= KEPT_EXACTLY and _has_float64(parameter.device)
    return torch.float64 if is_small else torch.float32


def wide_zeros(parameter: Tensor) -> Tensor:
    """Zeros in the shape of a parameter and the type in which sums of its gradients are kept."""
    return torch.zeros_like(parameter, dtype=summing_type(parameter))


def exact(*tensors: Tensor, products: int = 0) -> tuple[Tensor, ...]:
    """In float64 where they and the number of products of them are small, all or none; otherwise as they are."""
    large = sum(one.numel() for one in tensors) > EXACT or products > EXACT_PRODUCTS
    if large or not _has_float64(tensors[0].device):
        return tensors
    return tuple(one.double() for one in tensors)


def lengths(rows: Tensor) -> Tensor:
    """(n,) the length of each row (n, ...), in the type of the rows, of long ones in float64."""
    flat = rows.flatten(1) if rows.dim() > 1 else rows[:, None]
    runs, rest = divmod(flat.shape[1], _RUN)
    if runs <= 1 or flat.dtype == torch.float64:
        return torch.linalg.vector_norm(flat, dim=1)
    of_runs = torch.linalg.vector_norm(flat[:, : runs * _RUN].unflatten(1, (runs, _RUN)), dim=2)
    if rest:
        of_runs = torch.cat([of_runs, torch.linalg.vector_norm(flat[:, runs * _RUN :], dim=1, keepdim=True)], 1)
    return torch.linalg.vector_norm(to_float64(of_runs), dim=1)


def squared_lengths(rows: Tensor) -> Tensor:
    """(n,) float64, the squared length of each row (n, ...)."""
    return to_float64(lengths(rows)).square()


def to_float64(tensor: Tensor) -> Tensor:
    """In float64, or as it is where the device has none."""
    return tensor.double() if _has_float64(tensor.device) else tensor


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Products are computed in the type of what enters them, even within the caller's autocast."""
    with torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext():
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither TF32 nor bfloat16 inside products of float32, whatever the caller allows."""
    # Entered at every layer: what is whole already is not set and set back, which costs more than to look.
    whole = ("ieee",) if device.type == "cuda" else ("ieee", "none")
    short = [(place, given) for place in _products(device) if (given := place.fp32_precision) not in whole]
    if not short:
        yield
        return
    try:
        for place, _ in short:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, given in short:
            place.fp32_precision = given


def _products(device: torch.device) -> list[Any]:
    backends: Any = torch.backends
    if device.type == "cuda":
        return [backends.cuda.matmul, backends.cudnn.conv]
    return [backends.mkldnn.matmul, backends.mkldnn.conv]


def _has_float64(device: torch.device) -> bool:
    return device.type != "mps"
