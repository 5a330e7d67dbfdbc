"""Layers without a rule of ours: the gradients of all records by Opacus, or by its use of ``torch.func``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.privacy.bookkeeping import Stored, summed
from assay.privacy.layers import Shares
from assay.privacy.precision import at_least_float32


def fallback(name: str, layer: nn.Module) -> Callable[[list[Tensor], Tensor, int], Shares]:
    """How the shares of a layer are found from its inputs, the gradient of its output and the number of records.

    Raises:
        IncompatibleRecipeError: the layer draws at random, so that it cannot be asked again, or Opacus refuses it.
    """
    # Opacus takes a quarter of the time that all of Assay takes to import, and few networks need it.
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
            found = sampler(layer, [at_least_float32(one.detach()) for one in activations], backprops)
        for parameter, gradients in found.items():
            yield parameter, Stored(summed(gradients.detach(), n))

    return shares


def _by_functorch(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[Tensor, Tensor]:
    """The gradients of each record, from weights in float32 at least; Opacus' own call takes halves as they are."""
    parameters, seen = list(layer.parameters()), activations[0]
    seen = seen.to(backprops.dtype) if seen.is_floating_point() else seen
    ask: Callable[..., Sequence[Tensor]] = layer.ft_compute_sample_grad  # type: ignore[assignment]
    found = ask([one.detach().to(backprops.dtype) for one in parameters], seen, backprops)
    return dict(zip(parameters, found, strict=True))


def forget(layer: nn.Module) -> None:
    """Take away what Opacus left at the layer."""
    vars(layer).pop("ft_compute_sample_grad", None)


@contextmanager
def _named(name: str, layer: nn.Module) -> Iterator[None]:
    """Say which layer it was that has no gradient of one record."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise IncompatibleRecipeError(
            f"layer {name!r} ({type(layer).__name__}) has no per-record gradients here, nor by Opacus "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); build it from linear, convolutional, recurrent, "
            "attention, embedding or normalisation layers of torch.nn, or freeze it"
        ) from error
