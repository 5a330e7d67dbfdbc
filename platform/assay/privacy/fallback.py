"""Layers without a book-keeping rule: per-record gradients by Opacus, or by its use of ``torch.func``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import summed
from assay.privacy.layers import Shares
from assay.privacy.precision import at_least_float32
from assay.privacy.shares import Stored


def fallback(name: str, layer: nn.Module) -> Callable[[list[Tensor], Tensor, int], Shares]:
    """Returns a function that computes the shares of a layer's parameters by Opacus.

    Args:
        name: of the layer, for errors.
        layer: prepared for Opacus, in place; ``forget`` undoes this.

    Returns:
        A function of the layer's inputs, the gradient of its output and the number of records; it yields each
        parameter's share.

    Raises:
        IncompatibleRecipeError: the layer draws random numbers, so that its forward pass cannot be repeated, or Opacus
            refuses it.
    """
    # Imported here: it takes a quarter of Assay's import time, and few networks need it.
    from opacus.grad_sample.functorch import prepare_layer
    from opacus.grad_sample.grad_sample_module import GradSampleModule

    for inner in layer.modules():
        if isinstance(inner, nn.modules.dropout._DropoutNd) and inner.p > 0:
            raise IncompatibleRecipeError(
                f"layer {name!r} ({type(layer).__name__}) holds parameters of its own beside dropout, and would "
                "have to be asked again with the same draws for the gradient of one record; move the parameters into "
                "layers of their own, or set dropout to 0"
            )
    sampler = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    if sampler is None:
        with _named(name, layer):
            prepare_layer(layer, batch_first=True)
        sampler = _by_functorch

    def shares(activations: list[Tensor], backprops: Tensor, n: int) -> Shares:
        with _named(name, layer), torch.enable_grad():
            by_parameter = sampler(layer, [at_least_float32(one.detach()) for one in activations], backprops)
        for parameter, gradients in by_parameter.items():
            yield parameter, Stored(summed(gradients.detach(), n))

    return shares


def _by_functorch(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[Tensor, Tensor]:
    """Returns per-record gradients, computed from weights in float32 at least.

    Opacus' own call keeps float16 and bfloat16.
    """
    parameters, inputs = list(layer.parameters()), activations[0]
    inputs = inputs.to(backprops.dtype) if inputs.is_floating_point() else inputs
    ask: Callable[..., Sequence[Tensor]] = layer.ft_compute_sample_grad  # type: ignore[assignment]
    gradients = ask([one.detach().to(backprops.dtype) for one in parameters], inputs, backprops)
    return dict(zip(parameters, gradients, strict=True))


def forget(layer: nn.Module) -> None:
    """Removes what Opacus has attached to a layer.

    Args:
        layer: changed in place.
    """
    vars(layer).pop("ft_compute_sample_grad", None)


@contextmanager
def _named(name: str, layer: nn.Module) -> Iterator[None]:
    """Names the layer in errors of Opacus."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise IncompatibleRecipeError(
            f"layer {name!r} ({type(layer).__name__}) has no per-record gradients here, nor by Opacus "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); build it from linear, convolutional, recurrent, "
            "attention, embedding or normalisation layers of torch.nn, or freeze it"
        ) from error
