"""Gradients at the record: saliency (Simonyan et al. 2014, arXiv:1312.6034), times the input, and over noise."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, gradient_of
from assay.explain.references import Reference
from assay.explain.scalars import Scalar
from assay.registry import register

_ENTRIES = 2**16
"""Entries of a batch: more is slower on a processor, whose caches are small."""


def _gradients(model: nn.Module, x: Tensor, target: Tensor, scalar: Scalar) -> Tensor:
    """Returns the gradient of the scalar of each record by its entries, in batches that suit a processor.

    By the network itself: in a copy with channels last, another of two equal maxima would have the gradient.
    """
    if x.device.type != "cpu":
        return gradient_of(model, x, target, scalar)
    size = max(1, _ENTRIES // max(x[0].numel(), 1))
    pieces = zip(x.split(size), target.split(size), strict=True)
    return torch.cat([gradient_of(model, *piece, scalar) for piece in pieces])


@register("explainer")
class Saliency(Explainer):
    """Gradient at the record, with its sign: how the answer changes with a small change of an input."""

    name: Literal["saliency"] = "saliency"
    title: ClassVar[str] = "Gradient"
    adds_up: ClassVar[bool] = False
    multiplies_by_change: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=_gradients(model, x, target, type(self).scalar))


@register("explainer")
class InputTimesGradient(Explainer):
    """Gradient at the record times its difference to the baseline: exact for linear models alone."""

    name: Literal["input_times_gradient"] = "input_times_gradient"
    title: ClassVar[str] = "Input × gradient"
    adds_up: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        values = _gradients(model, x, target, type(self).scalar) * (x - reference.baseline(x))
        return Explained(values=values)


@register("explainer")
class SmoothGradient(Explainer):
    """Mean gradient over copies of the record with noise (SmoothGrad, Smilkov et al. 2017, arXiv:1706.03825)."""

    name: Literal["smooth_gradient"] = "smooth_gradient"
    title: ClassVar[str] = "SmoothGrad"
    adds_up: ClassVar[bool] = False
    multiplies_by_change: ClassVar[bool] = False
    copies: int = Field(default=50, ge=2)
    """Noisy copies of a record."""
    noise: float = Field(default=0.15, gt=0)
    """Standard deviation of the noise, as a share of the range of an entry; see ``Reference.range_of``."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        deviation, present = self.noise * reference.range_of(x), reference.present(x)
        halves = [torch.zeros_like(x), torch.zeros_like(x)]
        for number in range(self.copies):
            # The same noise for every record, and for the first words of a longer text: a record's map must not depend
            # on its neighbours.
            own = np.random.default_rng(draw.integers(2**63))
            noise = torch.from_numpy(own.standard_normal(tuple(x.shape[1:]), np.float32)).to(x) * deviation
            moved = x + (noise if present is None else noise * present)
            halves[number % 2] += _gradients(model, moved, target, type(self).scalar)
        sizes = [len(range(half, self.copies, 2)) for half in (0, 1)]
        return Explained(values=(halves[0] + halves[1]) / self.copies, second=halves[0] / sizes[0])
