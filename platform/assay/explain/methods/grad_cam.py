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

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
        return Explained(values=_cam(model, x, target, type(self).scalar, reference))


@register("explainer")
class GuidedGradCam(Explainer):
    """Grad-CAM times the gradient in which every ReLU passes positive gradients only (guided backpropagation).

    Guided backpropagation restores edges of the input whatever the weights are, so the randomised-weights check decides
    what this map is worth. A ReLU that is a function and no layer passes all gradients.
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
            try:
                gradient = gradient_of(model, x, target, scalar)
            except RuntimeError as error:
                raise ExplanationError(f"guided Grad-CAM cannot follow this network: {error}") from None
        return Explained(values=_cam(model, x, target, scalar, reference) * gradient)


def _cam(model: nn.Module, x: Tensor, target: Tensor, scalar: Scalar, reference: Reference) -> Tensor:
    if reference.modality == "text":
        raise ExplanationError("Grad-CAM needs an image or a signal; the places of a text's words are no space")
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        seen.append(out)
        return out.clone()  # what follows may change it in place

    hooks = [layer.register_forward_hook(keep) for layer in model.modules() if isinstance(layer, _CONVOLUTIONS)]
    try:
        with torch.enable_grad():
            # The input needs a gradient so that the layers' outputs have one, whose weights have none.
            answers = scalar(model(x.detach().requires_grad_(True)), target)
            wide = [out for out in seen if out.dim() == x.dim() and out[0, 0].numel() > 1]
            if not wide:
                raise ExplanationError("Grad-CAM needs a convolution over the record, with an output of several places")
            # The last that ran, in whatever order the network holds them.
            (gradient,) = torch.autograd.grad(answers.sum(), wide[-1], allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    if gradient is None:
        raise ExplanationError("the answer does not depend on the last convolution")
    space = tuple(range(2, gradient.dim()))
    coarse = (gradient.mean(space, keepdim=True) * wide[-1].detach()).sum(1, keepdim=True).relu()
    if tuple(x.shape[2:]) == tuple(coarse.shape[2:]):
        fine = coarse
    else:
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[coarse.dim()]
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
