"""Base class of explanation methods: a method attributes, and the wrapper checks what it returns."""

import time
from collections.abc import Callable
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
from assay.explain.untouched import untouched
from assay.models.batches import places, respond
from assay.models.recurrent import differentiable
from assay.registry import Method
from assay.results import ReasonCode

_ROUNDING = 64
"""Units in the last place of the greatest logit below which a change is rounding."""

_UNUSED = seeds.stream(0, "unused")
"""For methods that draw nothing."""


class ExplanationError(UserError):
    """An explanation method does not support the network, or it returned what is no explanation."""

    reason: ReasonCode = "no_method"
    """Why, as a code of the results."""


class NotFiniteError(ExplanationError):
    """The model answers NaN or infinity, which nothing explains."""

    reason: ReasonCode = "no_finite_answers"


class RandomAnswersError(ExplanationError):
    """The model answers the same record differently each time: a map would explain one draw."""

    reason: ReasonCode = "random_answers"


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
    """(n, ...) signed contributions, in the unit of the method's scalar."""
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

    second: Tensor | None = None
    """(n, ...) the contributions by the second rule; None where the method has none."""
    scale: Tensor
    """(n,) what errors of sums are relative to: the change explained, or the greatest value where contributions cancel,
    or the rounding of the logits where there is nothing to explain."""


class Explainer(Method):
    """Base class. Register with ``@register("explainer")``; write ``attribute``."""

    title: ClassVar[str]
    """Name for readers."""
    adds_up: ClassVar[bool] = True
    """Whether the values of a record add up to the change of the scalar."""
    needs_gradient: ClassVar[bool] = True
    """Whether the model must have a gradient; other methods only ask it for answers."""
    multiplies_by_change: ClassVar[bool] = True
    """Whether a value is what an entry adds to the answer; else it is the answer's change by a unit of the entry."""
    draws: ClassVar[bool] = True
    """Whether it uses random numbers; where not, ``draw`` is one generator for all, which is quicker than a new one."""
    scalar: ClassVar[Scalar] = staticmethod(log_odds)
    """What is explained."""

    @property
    def from_background(self) -> bool:
        """Whether the change is that from the mean over the background, not that from the baseline."""
        return False

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

    def attribute_change(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        reference: Reference,
        draw: np.random.Generator,
        *,
        change: Tensor,
    ) -> Explained:
        """Attributes as ``attribute`` does; a method that uses what its values should add up to writes this instead.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) records.
            target: (n,) class that is explained.
            reference: what records are compared with.
            draw: random numbers, the same for each batch.
            change: (n,) the scalar at each record minus that at its reference.

        Returns:
            The contributions.
        """
        return self.attribute(model, x, target, reference, draw)

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
        target = _as_classes(target)
        _refuse(model, x, target, reference)
        started = time.perf_counter()
        with untouched(model), repeatable(), differentiable(model):
            change, rounding = self._change(model, x, target, reference)
            if not bool(change.isfinite().all()):
                bad = int((~change.isfinite()).nonzero()[0])
                raise NotFiniteError(
                    f"the model answers NaN or infinity for record {bad}, or for what it is compared with"
                )
            values, second = self._by_batch(model, x, target, reference, seed, change)
        greatest = values.flatten(1).abs().amax(1)
        scale = torch.maximum(torch.maximum(change.abs(), greatest), rounding)
        missed = (values.flatten(1).sum(1) - change).abs() / scale
        return Attribution(
            values=values,
            change=change,
            scale=scale,
            error=missed if self.adds_up else torch.full_like(change, torch.nan),
            value_error=_value_error(values, second, greatest),
            second=second,
            seconds=time.perf_counter() - started,
        )

    def _by_batch(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, seed: int, change: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the checked contributions, and those of a second rule if the method has one; both like x."""
        parts: list[Explained] = []
        for place in places(len(x), tuple(x.shape[1:])):
            draw = seeds.stream(seed, "explain", self.name) if self.draws else _UNUSED
            some = model, x[place], target[place], reference, draw
            parts.append(self.attribute_change(*some, change=change[place]))
        values = self._checked(torch.cat([part.values.detach() for part in parts]), x, reference)
        if parts[0].second is None:
            return values, None
        found = torch.cat([part.second for part in parts if part.second is not None])
        return values, self._checked(found.detach(), x, reference)

    def _change(self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
        """Returns what the values should add up to, and the part of it that may be rounding; both (n,)."""
        scalar = type(self).scalar
        start = reference.background.to(x) if self.from_background else reference.baseline(x)
        if not self.from_background and reference.one_baseline:
            start = start[:1]
        if start.shape[1:] == x.shape[1:]:
            answers = respond(model, torch.cat([x, start]))
            _refuse_targets(answers, target)
            logits, neutral = answers[: len(x)], answers[len(x) :]
        else:
            logits, neutral = respond(model, x), respond(model, start)
            _refuse_targets(logits, target)
        compared = neutral.abs().max() if self.from_background else neutral.abs().amax(1)
        largest = torch.maximum(logits.abs().amax(1), compared)
        rounding = (_ROUNDING * torch.finfo(logits.dtype).eps * largest).clamp_min(torch.finfo(logits.dtype).tiny)
        if not self.from_background:
            return scalar(logits, target) - scalar(neutral.expand_as(logits), target), rounding
        mean = {
            int(one): scalar(neutral, one.expand(len(neutral))).double().mean().to(neutral) for one in target.unique()
        }
        return scalar(logits, target) - torch.stack([mean[int(one)] for one in target]), rounding

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


def gradient_of(model: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, scalar: Scalar) -> Tensor:
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


def _value_error(values: Tensor, second: Tensor | None, greatest: Tensor) -> Tensor:
    if second is None:
        return torch.full_like(greatest, torch.nan)
    return (values - second).flatten(1).abs().amax(1) / greatest.clamp_min(torch.finfo(values.dtype).tiny)


def _as_classes(target: Tensor) -> Tensor:
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"targets of type {target.dtype} are no class numbers: give whole numbers, as torch.long")
    return target.long()


def _refuse(model: nn.Module, x: Tensor, target: Tensor, reference: Reference) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:
            raise ExplanationError(
                f"layer {name!r} normalises by the batch, so an answer depends on the records beside it: track running "
                "statistics"
            )
    if not len(x) or target.shape != x.shape[:1]:
        raise ValueError(
            f"{len(x)} records and targets of shape {tuple(target.shape)}: give one target for each record"
        )
    if reference.background.shape[1:] != x.shape[1:] and reference.modality != "text":
        given, wanted = tuple(reference.background.shape[1:]), tuple(x.shape[1:])
        raise ValueError(f"the background has records of shape {given}; those that are explained have {wanted}")


def _refuse_targets(logits: Tensor, target: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ExplanationError(
            f"the model returned shape {tuple(logits.shape)}; logits must be (n, classes), two or more"
        )
    least, most = target.aminmax()
    if int(least) < 0 or int(most) >= logits.shape[1]:
        outside = target[(target < 0) | (target >= logits.shape[1])]
        raise ValueError(f"target {int(outside[0])} is no class: the model has {logits.shape[1]}, from 0")
