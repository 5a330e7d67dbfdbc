"""Layer-wise relevance propagation (Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2019)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assay.explain.base import Explained, Explainer, ExplanationError
from assay.explain.layer_chain import Step, layer_chain
from assay.explain.references import Reference
from assay.explain.relevance_rules import LinearLayer, Rule, handed_down
from assay.explain.scalars import Scalar, lead
from assay.models.front import Normalise
from assay.registry import register

_DENSE, _CONVOLUTIONS = (nn.Linear,), (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_ALIKE = (nn.ReLU, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, Normalise)
"""Layers whose outputs hand their relevance to the one input that they have."""
_KNOWN = frozenset((*_DENSE, *_CONVOLUTIONS, *_NORMS, *_AVERAGES, *_MAXIMA, *_ALIKE))
_LARGEST_ERROR = 1e-6
"""Greatest difference between what is handed down and the score, as a share of all relevance: rounding in float64."""


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """The score of each record in parts."""

    values: Tensor
    """(n, ...) of the entries of the record."""
    kept: Tensor
    """(n,) of biases and stabilisers of all layers."""
    score: Tensor
    """(n,) logit of the target minus the mean of the others; values and ``kept`` add up to it."""


@register("explainer")
class Lrp(Explainer):
    """Hands the score back from layer to layer, in proportion to what each input contributed.

    The network must be a chain of linear layers, convolutions, ReLU, pooling, dropout and flattening; anything else is
    refused with its name. Batch normalisation is merged into the layer before it, so the network with it and the merged
    one have the same values. Normalisation of the data set passes relevance unchanged: that of a pixel is that of its
    normalised value. The greatest input of a maximum takes all.

    The score, not its change from a baseline, is divided: there is no reference. Values and the shares of the biases
    add up to the score (``relevance`` returns both, and checks it), so ``adds_up`` is false: without the biases the
    values need not add up to the change that other methods explain.

    It is our own: LRP of Captum explains a lone logit, and has no rule for batch normalisation but that of a layer
    alone. The scalar is linear in the logits, and part of the last layer.
    """

    name: Literal["lrp"] = "lrp"
    title: ClassVar[str] = "LRP"
    adds_up: ClassVar[bool] = False
    scalar: ClassVar[Scalar] = staticmethod(lead)
    dense: Rule = "epsilon"
    """Rule of linear layers."""
    convolution: Rule = "gamma"
    """Rule of convolutions."""
    gamma: float = Field(default=0.25, gt=0)
    """How much more contributions of the sign of the output count by the rule ``gamma``."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Stabiliser of denominators, as a share of the greatest of the record in the layer."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=self.relevance(model, x, target).values.to(x))

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor) -> Relevance:
        """Divides the score of each record.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) records.
            target: (n,) class that is explained.

        Returns:
            The parts, in float64.

        Raises:
            ExplanationError: the network is no chain of layers with a rule.
        """
        steps, logits = layer_chain(model, x, known=_KNOWN, method=self.title)
        parts = _with_lead(_parts(steps), logits.detach())
        last = parts[-1]
        assert last.linear is not None
        leads = last.linear.apply(last.given, last.linear.weight) + last.linear.bias
        relevance = leads * F.one_hot(target, leads.shape[1])
        score, kept = relevance.sum(1), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for part in reversed(parts):
            if part.linear is not None:
                relevance, own = handed_down(
                    part.linear, part.given, relevance, self._rule(part.layer), self.gamma, self.epsilon
                )
                kept = kept + own
            elif isinstance(part.layer, _MAXIMA):
                relevance = _to_greatest(part.layer, part.given, relevance)
            else:
                relevance = relevance.reshape(part.given.shape)
        found = Relevance(values=relevance.reshape(x.shape), kept=kept, score=score)
        _refuse_lost(found)
        return found

    def _rule(self, layer: nn.Module) -> Rule:
        if isinstance(layer, _CONVOLUTIONS):
            return self.convolution
        return self.dense if isinstance(layer, _DENSE) else "epsilon"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A layer with those that are merged into it."""

    layer: nn.Module
    given: Tensor
    """Its input, in float64."""
    linear: LinearLayer | None = None
    """What it computes, where that is linear."""


def _parts(steps: list[Step]) -> list[_Part]:
    """Returns the layers with batch normalisation merged into those before, and the scalar into the last."""
    parts: list[_Part] = []
    for place, step in enumerate(steps):
        given, layer = step.given.detach().double(), step.layer
        if isinstance(layer, _NORMS):
            before = steps[place - 1].layer if place else None
            if not isinstance(before, _DENSE + _CONVOLUTIONS):
                raise ExplanationError(
                    f"LRP has no rule for {step.name} unless a convolution or linear layer is before it"
                )
            merged = parts[-1].linear
            assert merged is not None
            parts[-1] = replace(parts[-1], linear=_normalised(merged, layer, step.name))
        else:
            parts.append(_Part(layer=layer, given=given, linear=_linear(layer, step.name)))
    return parts


def _with_lead(parts: list[_Part], logits: Tensor) -> list[_Part]:
    """Returns the layers with the lead of every class in place of the logits."""
    classes = logits.shape[1]
    mixed = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64, device=logits.device)
    mixed.fill_diagonal_(1.0)
    last = parts[-1]
    if isinstance(last.layer, _DENSE):
        assert last.linear is not None
        merged = replace(last.linear, weight=mixed @ last.linear.weight, bias=last.linear.bias @ mixed)
        return [*parts[:-1], replace(last, linear=merged)]
    lead_of = LinearLayer(apply=F.linear, weight=mixed, bias=mixed.new_zeros(classes))
    return [*parts, _Part(layer=nn.Identity(), given=logits.double(), linear=lead_of)]


def _linear(layer: nn.Module, name: str) -> LinearLayer | None:
    """Returns what a linear layer computes, in float64; None for other layers."""
    if isinstance(layer, _AVERAGES):
        nothing = torch.zeros((), dtype=torch.float64)
        return LinearLayer(apply=lambda given, weight: layer(given) * weight, weight=nothing + 1, bias=nothing)
    if not isinstance(layer, _DENSE + _CONVOLUTIONS):
        return None
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer, nn.Linear):
        return LinearLayer(apply=F.linear, weight=weight, bias=bias)
    if layer.padding_mode != "zeros":
        raise ExplanationError(f"LRP has no rule for {name} with padding {layer.padding_mode!r}: zeros alone")
    convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    settings = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    wide = bias.view(-1, *[1] * (weight.dim() - 2))
    return LinearLayer(apply=lambda given, weight: convolve(given, weight, **settings), weight=weight, bias=wide)


def _normalised(linear: LinearLayer, norm: nn.Module, name: str) -> LinearLayer:
    """Returns a linear layer and the batch normalisation behind it as one."""
    assert isinstance(norm, _NORMS)
    if norm.running_mean is None or norm.running_var is None:
        raise ExplanationError(f"LRP has no rule for {name} without running figures: it depends on the batch")
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach().double()
    shift = -norm.running_mean.double() * factor
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    weight = linear.weight * factor.view(-1, *[1] * (linear.weight.dim() - 1))
    bias = linear.bias * factor.view_as(linear.bias) + shift.view_as(linear.bias)
    return replace(linear, weight=weight, bias=bias)


def _to_greatest(layer: nn.Module, given: Tensor, relevance: Tensor) -> Tensor:
    """Returns the relevance of the inputs of a maximum: the greatest of each window takes all."""
    with torch.enable_grad():
        point = given.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(layer(point), point, relevance)
    return found


def _refuse_lost(found: Relevance) -> None:
    """Refuses parts that do not add up to the score."""
    total = found.values.flatten(1).abs().sum(1) + found.kept.abs()
    missed = (found.values.flatten(1).sum(1) + found.kept - found.score).abs()
    if bool((missed > _LARGEST_ERROR * total + 1e-300).any()):
        raise ExplanationError(
            f"relevance and score differ by {float((missed / total).max()):.1%} of all relevance: the rules do not hold"
        )
