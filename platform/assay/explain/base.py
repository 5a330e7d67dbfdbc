"""Base class of explanation methods: a method attributes, and the wrapper checks what it returns."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.devices import repeatable
from assay.errors import UserError
from assay.explain.references import Reference
from assay.explain.scalars import Scalar, log_odds
from assay.models.batches import places, respond
from assay.models.recurrent import differentiable
from assay.registry import Method
from assay.results import ReasonCode

_SMALLEST = 1e-12
"""Changes below this are taken for this, so that a constant model has errors of 0 and not NaN."""
_HELD = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""What PyTorch keeps of a layer in dictionaries."""


class ExplanationError(UserError):
    """An explanation method does not support the network, or it returned what is no explanation."""

    reason: ReasonCode = "no_method"
    """Why, as a code of the results."""


class NotFiniteError(ExplanationError):
    """The model answers NaN or infinity, which nothing explains."""

    reason: ReasonCode = "no_finite_answers"


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a method proposes for some records."""

    values: Tensor
    """(n, ...) contributions."""
    second: Tensor | None = None
    """(n, ...) the same contributions by a second rule, where the method has one; the difference is their error."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Contribution of each input to the explained number, and how far it can be trusted as a sum and one by one."""

    values: Tensor
    """(n, ...) signed contributions, in the unit of the scalar (log-odds)."""
    change: Tensor
    """(n,) the scalar at the record minus that at the reference: what the values should add up to."""
    error: Tensor
    """(n,) |sum of values − change|, relative to the change explained (see ``scale``): the completeness error of
    integrated gradients, the additivity error of SHAP. NaN for methods whose values need not add up."""
    value_error: Tensor
    """(n,) greatest difference of a value between two rules, relative to the greatest value; NaN without a second rule.
    Values can be wrong though their sum is right."""
    seconds: float
    """Wall time of all records."""

    @property
    def scale(self) -> Tensor:
        """(n,) the change explained, or the greatest value where contributions cancel: errors are relative to it."""
        return _scale(self.values, self.change)


class Explainer(Method):
    """Base class. Register with ``@register("explainer")``; write ``attribute``."""

    title: ClassVar[str]
    """Name for readers."""
    adds_up: ClassVar[bool] = True
    """Whether the values of a record add up to the change of the scalar."""
    needs_gradient: ClassVar[bool] = True
    """Whether the model must have a gradient; other methods only ask it for answers."""
    scalar: ClassVar[Scalar] = staticmethod(log_odds)
    """What is explained."""
    from_background: ClassVar[bool] = False
    """Whether the change is that from the mean over the background, not that from the baseline."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        """Attributes the scalar of each record to its entries.

        Every record must get the same values alone and in any batch: what is drawn must not depend on the number of
        records or on their order.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.
            draw: random numbers, the same for each batch.

        Returns:
            The contributions.

        Raises:
            ExplanationError: the method does not support the network.
        """
        raise NotImplementedError

    @final
    def explain(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, *, seed: int = 0
    ) -> Attribution:
        """Attributes every record, batch by batch, and checks the result.

        The model, the gradients of its weights, its mode and hooks, and the global random generators are left as they
        were. Padding gets exactly 0.

        Args:
            model: from records to logits.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.
            seed: of random numbers.

        Returns:
            The attribution with its errors, relative to the change explained.

        Raises:
            ExplanationError: the method does not support the network, or returned another shape, or values that are not
                finite.
            ValueError: a target is no class of the model, or the background has another shape than the records.
        """
        _refuse(x, reference)
        started = time.perf_counter()
        parts: list[Explained] = []
        with untouched(model), repeatable(), differentiable(model):
            change = self._change(model, x, target, reference)
            if not bool(change.isfinite().all()):
                bad = int((~change.isfinite()).nonzero()[0])
                raise NotFiniteError(
                    f"the model answers NaN or infinity for record {bad}, or for what it is compared with"
                )
            for place in places(len(x), tuple(x.shape[1:])):
                draw = seeds.stream(seed, "explain", self.name)
                parts.append(self.attribute(model, x[place], target[place], reference, draw))
        values = self._checked(torch.cat([part.values.detach() for part in parts]), x, reference)
        second = None
        if parts[0].second is not None:
            found = torch.cat([part.second for part in parts if part.second is not None])
            second = self._checked(found.detach(), x, reference)
        return Attribution(
            values=values,
            change=change,
            error=self._error(values, change),
            value_error=_value_error(values, second),
            seconds=time.perf_counter() - started,
        )

    def _change(self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference) -> Tensor:
        """Returns what the values should add up to, (n,)."""
        logits = respond(model, x)
        _refuse_targets(logits, target)
        scalar = type(self).scalar
        if not self.from_background:
            return scalar(logits, target) - scalar(respond(model, reference.baseline(x)), target)
        neutral = respond(model, reference.background.to(x))
        classes = target.unique()
        mean = {int(one): scalar(neutral, one.expand(len(neutral))).mean() for one in classes}
        return scalar(logits, target) - torch.stack([mean[int(one)] for one in target])

    def _checked(self, values: Tensor, x: Tensor, reference: Reference) -> Tensor:
        if values.shape != x.shape:
            given, wanted = tuple(values.shape), tuple(x.shape)
            raise ExplanationError(f"{self.name} returned values of shape {given} for records of shape {wanted}")
        if not bool(values.isfinite().all()):
            bad = int((~values.isfinite().flatten(1).all(1)).nonzero()[0])
            raise NotFiniteError(
                f"{self.name} gives NaN or infinity for record {bad}: answers or gradients of the model overflow"
            )
        present = reference.present(x)
        return values if present is None else values * present

    def _error(self, values: Tensor, change: Tensor) -> Tensor:
        if not self.adds_up:
            return torch.full_like(change, torch.nan)
        return (values.flatten(1).sum(1) - change).abs() / _scale(values, change)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leaves a model and the global random generators as they were, whatever a method does to them within the block.

    The model is in evaluation mode within the block; gradients are computed for inputs and not for weights.

    Args:
        model: that is explained.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    attributes = {layer: set(vars(layer)) for layer in model.modules()}
    held = {layer: {name: dict(getattr(layer, name)) for name in _HELD} for layer in model.modules()}
    weights = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    states = random.getstate(), np.random.get_state()
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(gpus):
            model.eval()
            for weight, _, _ in weights:
                weight.requires_grad_(False)
            yield
    finally:
        for layer, mode in modes:
            for name in vars(layer).keys() - attributes[layer]:
                delattr(layer, name)
            layer.training = mode
            for name, before in held[layer].items():
                now = getattr(layer, name)
                now.clear()
                now.update(before)
        for weight, wanted, gradient in weights:
            weight.requires_grad_(wanted)
            weight.grad = gradient
        random.setstate(states[0])
        np.random.set_state(states[1])


def gradient_of(model: nn.Module, x: Tensor, target: Tensor, scalar: Scalar) -> Tensor:
    """Returns the gradient of the scalar of each record by its entries.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        target: (n,) class that is explained.
        scalar: of the logits.

    Returns:
        (n, ...) gradients.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(scalar(model(point), target).sum(), point)
    return gradient


def _scale(values: Tensor, change: Tensor) -> Tensor:
    return torch.maximum(change.abs(), values.flatten(1).abs().amax(1)).clamp_min(_SMALLEST)


def _value_error(values: Tensor, second: Tensor | None) -> Tensor:
    greatest = values.flatten(1).abs().amax(1)
    if second is None:
        return torch.full_like(greatest, torch.nan)
    return (values - second).flatten(1).abs().amax(1) / greatest.clamp_min(_SMALLEST)


def _refuse(x: Tensor, reference: Reference) -> None:
    if reference.background.shape[1:] != x.shape[1:] and reference.modality != "text":
        given, wanted = tuple(reference.background.shape[1:]), tuple(x.shape[1:])
        raise ValueError(f"the background has records of shape {given}; those that are explained have {wanted}")


def _refuse_targets(logits: Tensor, target: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ExplanationError(
            f"the model returned shape {tuple(logits.shape)}; logits must be (n, classes), two or more"
        )
    outside = target[(target < 0) | (target >= logits.shape[1])]
    if len(outside):
        raise ValueError(f"target {int(outside[0])} is no class: the model has {logits.shape[1]}, from 0")
