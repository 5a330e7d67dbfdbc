"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) and guided Grad-CAM: the channels of the last convolution."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.explain.base import Explained, Explainer, ExplanationError, gradient_of
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.registry import register

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


@register("explainer")
class GradCam(Explainer):
    """Sum of the last convolution's channels, each weighted by its mean gradient; negative sums are 0.

    The map is as coarse as that layer and is interpolated linearly. A map that is negative everywhere is 0 everywhere:
    it is not stretched to the range of others.
    """

    name: Literal["grad_cam"] = "grad_cam"
    title: ClassVar[str] = "Grad-CAM"
    adds_up: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=_cam(model, x, target, type(self).scalar))


@register("explainer")
class GuidedGradCam(Explainer):
    """Grad-CAM times the gradient in which every ReLU passes positive gradients only (guided backpropagation).

    Guided backpropagation restores edges of the input whatever the weights are, so the randomised-weights check decides
    what this map is worth.
    """

    name: Literal["guided_grad_cam"] = "guided_grad_cam"
    title: ClassVar[str] = "Guided Grad-CAM"
    adds_up: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        if not any(isinstance(layer, nn.ReLU) for layer in model.modules()):
            raise ExplanationError("guided Grad-CAM needs ReLU layers, and this network has none")
        scalar = type(self).scalar
        with _guided(model):
            gradient = gradient_of(model, x, target, scalar)
        return Explained(values=_cam(model, x, target, scalar) * gradient)


def _cam(model: nn.Module, x: Tensor, target: Tensor, scalar: Scalar) -> Tensor:
    layers = [layer for layer in model.modules() if isinstance(layer, _CONVOLUTIONS)]
    if not layers:
        raise ExplanationError("Grad-CAM needs a convolution, and this network has none")
    seen: list[Tensor] = []
    hook = layers[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        with torch.enable_grad():
            # The input needs a gradient so that the layer's output has one, whose weights have none.
            answers = scalar(model(x.detach().requires_grad_(True)), target)
            if len(seen) != 1:
                raise ExplanationError(f"Grad-CAM needs a last convolution that runs once; it ran {len(seen)} times")
            (gradient,) = torch.autograd.grad(answers.sum(), seen[0])
    finally:
        hook.remove()
    space = tuple(range(2, gradient.dim()))
    coarse = (gradient.mean(space, keepdim=True) * seen[0].detach()).sum(1, keepdim=True).relu()
    if tuple(x.shape[2:]) == tuple(coarse.shape[2:]):
        fine = coarse
    else:
        mode = "linear" if coarse.dim() == 3 else "bilinear"
        fine = F.interpolate(coarse, size=tuple(x.shape[2:]), mode=mode, align_corners=False)
    return (fine / x.shape[1]).expand_as(x)


@contextmanager
def _guided(model: nn.Module) -> Iterator[None]:
    """Lets every ReLU pass positive gradients only, within the block."""

    def positive(_: nn.Module, given: tuple[Tensor, ...], __: Any) -> tuple[Tensor, ...]:
        return tuple(gradient.clamp_min(0) for gradient in given)

    relus = [layer for layer in model.modules() if isinstance(layer, nn.ReLU)]
    inplace = [layer.inplace for layer in relus]
    hooks = [layer.register_full_backward_hook(positive) for layer in relus]
    try:
        for layer in relus:
            layer.inplace = False
        yield
    finally:
        for layer, before in zip(relus, inplace, strict=True):
            layer.inplace = before
        for hook in hooks:
            hook.remove()
