"""Precision of lengths and sums of gradients, independent of the precision of the network.

A clipped sum that is rounded to bfloat16 changes by several clipping norms when one record is added, because the
rounding error grows with the sum and not with the contribution of one record. So float16 and bfloat16 are widened to
float32, small sums are computed in float64, squared lengths are added in float64, and neither autocast nor TF32
applies to them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from assay.errors import IncompatibleRecipeError

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float64, torch.float32, *HALVES)
"""Types of weights for which the bound on one record's contribution is tested."""
EXACT = 2**17
"""Greatest number of entries of a sum that is computed in float64; this is cheap for small layers."""
EXACT_PRODUCTS = 2**22
"""Greatest number of products of such a sum."""
KEPT_EXACTLY = 2**16
"""Greatest size of a float16 or bfloat16 parameter whose sums are kept in float64: float32 rounds large sums, too."""
_RUN = 512
"""Number of squares that are added in the gradient's own precision; these partial sums are added in float64."""


def refuse_types(parameters: dict[Tensor, str]) -> None:
    """Raises if a weight has a type for which the bound on one record's contribution has not been shown.

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
    """Returns a float16 or bfloat16 tensor in float32, any other unchanged: lengths need the range and the digits.

    Args:
        tensor: of any type.

    Returns:
        The tensor.
    """
    return tensor.float() if tensor.dtype in HALVES else tensor


def summing_type(parameter: Tensor) -> torch.dtype:
    """Returns the type in which sums of a parameter's gradients are kept.

    It depends on the parameter alone, so that all workers agree: the parameter's own type or, for float16 and bfloat16,
    float64 if the parameter is small and float32 otherwise. The rounding error of a sum of n records is n times that of
    one, at most 2⁻²⁴ of the sum's length in float32.

    Args:
        parameter: of the model.

    Returns:
        The type.
    """
    if parameter.dtype not in HALVES:
        return parameter.dtype
    is_small = parameter.numel() <= KEPT_EXACTLY and _has_float64(parameter.device)
    return torch.float64 if is_small else torch.float32


def wide_zeros(parameter: Tensor) -> Tensor:
    """Returns zeros of a parameter's shape, in the type in which sums of its gradients are kept.

    Args:
        parameter: of the model.

    Returns:
        The zeros.
    """
    return torch.zeros_like(parameter, dtype=summing_type(parameter))


def exact(*tensors: Tensor, products: int = 0) -> tuple[Tensor, ...]:
    """Returns tensors in float64 if they and their products are few enough; otherwise unchanged.

    Args:
        tensors: factors of a product; all of them are converted, or none.
        products: number of products that will be added.

    Returns:
        The tensors, in order.
    """
    large = sum(one.numel() for one in tensors) > EXACT or products > EXACT_PRODUCTS
    if large or not _has_float64(tensors[0].device):
        return tensors
    return tuple(one.double() for one in tensors)


def lengths(rows: Tensor) -> Tensor:
    """Returns the Euclidean length of each row.

    Args:
        rows: (n, ...).

    Returns:
        (n,) in the type of the rows; in float64 where rows are long.
    """
    flat = rows.flatten(1) if rows.dim() > 1 else rows[:, None]
    runs, rest = divmod(flat.shape[1], _RUN)
    if runs <= 1 or flat.dtype == torch.float64:
        return torch.linalg.vector_norm(flat, dim=1)
    of_runs = torch.linalg.vector_norm(flat[:, : runs * _RUN].unflatten(1, (runs, _RUN)), dim=2)
    if rest:
        of_runs = torch.cat([of_runs, torch.linalg.vector_norm(flat[:, runs * _RUN :], dim=1, keepdim=True)], 1)
    return torch.linalg.vector_norm(to_float64(of_runs), dim=1)


def squared_lengths(rows: Tensor) -> Tensor:
    """Returns the squared length of each row.

    Args:
        rows: (n, ...).

    Returns:
        (n,) float64.
    """
    return to_float64(lengths(rows)).square()


def to_float64(tensor: Tensor) -> Tensor:
    """Returns a tensor in float64; unchanged where the device has no float64.

    Args:
        tensor: of any type.

    Returns:
        The tensor.
    """
    return tensor.double() if _has_float64(tensor.device) else tensor


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Disables autocast within the context: products are computed in the type of their factors.

    Args:
        device: whose autocast is disabled.
    """
    with torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext():
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Disables TF32 and bfloat16 in float32 products within the context, whatever the caller allows.

    Args:
        device: whose settings are changed, and restored afterwards.
    """
    # Entered at every layer: settings that are right already are left alone, because setting costs more than reading.
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


class SumsInFloat64(TorchDispatchMode):
    """Computes every operation within the context in float64, and rounds its result once, to the type it has outside.

    The kernel of a convolution, for example, adds the gradient of a bias over all records and positions in one run of
    float32 additions, which loses three digits where all have the same sign. Autograd's backward passes are covered,
    and so is what they compute again for checkpoints.

    An operation stays as it is if its result shares memory with its arguments (views, changes in place), if it draws
    random numbers, if it reads the workspace of another kernel, or if it has no float64 kernel.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not _is_widened(func, [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]):
            return result
        try:
            wide = func(*tree_map(_widened, args), **tree_map(_widened, kwargs))
        except torch.OutOfMemoryError:  # a RuntimeError, too: the sum would be kept in float32 without a word
            raise
        except (RuntimeError, NotImplementedError):
            return result
        return tree_map(_rounded_as, wide, result)


def _is_widened(func: Any, tensors: list[Tensor]) -> bool:
    """Returns whether an operation can be repeated in float64."""
    if any(argument.alias_info is not None for argument in func._schema.arguments):
        return False
    if torch.Tag.nondeterministic_seeded in func.tags or any(one.dtype == torch.uint8 for one in tensors):
        return False
    return any(_is_narrow(one) and _has_float64(one.device) for one in tensors)


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.dtype in DTYPES and tensor.dtype != torch.float64


def _widened(argument: Any) -> Any:
    return argument.double() if isinstance(argument, Tensor) and _is_narrow(argument) else argument


def _rounded_as(wide: Any, result: Any) -> Any:
    return wide.to(result.dtype) if isinstance(wide, Tensor) and isinstance(result, Tensor) else wide


def _products(device: torch.device) -> list[Any]:
    backends: Any = torch.backends
    if device.type == "cuda":
        return [backends.cuda.matmul, backends.cudnn.conv]
    return [backends.mkldnn.matmul, backends.mkldnn.conv]


def _has_float64(device: torch.device) -> bool:
    return device.type != "mps"
