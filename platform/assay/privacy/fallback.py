"""Layers without a rule of ours: the gradients of all records by Opacus, or by its use of ``torch.func``."""

from collections.abc import Callable
from functools import partial

import torch
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient, prepare_layer
from opacus.grad_sample.grad_sample_module import GradSampleModule
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import Stored, summed
from assay.privacy.layers import Shares


def fallback(name: str, layer: nn.Module) -> Callable[[list[Tensor], Tensor, int], Shares]:
    """How the shares of a layer are found from its inputs, the gradient of its output and the number of records.

    Raises:
        IncompatibleRecipeError: the layer draws at random, so that it cannot be asked again.
    """
    for inner in layer.modules():
        if isinstance(inner, nn.modules.dropout._DropoutNd) and inner.p > 0:
            raise IncompatibleRecipeError(
                f"layer {name!r} ({type(layer).__name__}) holds parameters of its own beside dropout, and would "
                "have to be asked again with the same draws for the gradient of one record; move the parameters into "
                "layers of their own, or set dropout to 0"
            )
    sampler = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    if sampler is None:
        prepare_layer(layer, batch_first=True)
        sampler = ft_compute_per_sample_gradient

    def shares(given: list[Tensor], back: Tensor, n: int) -> Shares:
        for parameter, gradients in _gradients(name, layer, partial(sampler, layer, given, back)).items():
            yield parameter, Stored(summed(gradients.detach(), n))

    return shares


def _gradients(name: str, layer: nn.Module, ask: Callable[[], dict[Tensor, Tensor]]) -> dict[Tensor, Tensor]:
    try:
        with torch.enable_grad():
            return ask()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise IncompatibleRecipeError(
            f"layer {name!r} ({type(layer).__name__}) has no per-record gradients here, nor by Opacus "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); build it from linear, convolutional, recurrent, "
            "attention, embedding or normalisation layers of torch.nn, or freeze it"
        ) from error
