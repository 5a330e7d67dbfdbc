"""Certified training by interval bounds (Gowal et al. 2018, arXiv:1810.12715)."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from assay.bounds.interval import logits_and_worst
from assay.objectives.base import Batch, Objective
from assay.registry import Number, register


@register("objective")
class IntervalBounds(Objective):
    """Cross-entropy of the worst logits within interval bounds, mixed with the cross-entropy of the records themselves.

    Training starts with the plain loss. Then ε grows linearly to its target while the weight of the plain loss falls to
    ``final_kappa``; both stay there until the end. Batch norm normalises a record and its box by the same statistics,
    those
    of the batch's records (as auto_LiRPA does; Xu et al. 2020, arXiv:2002.12920).
    """

    name: Literal["interval_bounds"] = "interval_bounds"
    epsilon: Number = Field(gt=0)
    """Radius (L∞) of the boxes at the end, in the units of the data."""
    final_kappa: float = Field(default=0.5, ge=0, le=1)
    """Weight of the plain loss at the end; it is 1 at the beginning."""
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of training with ε = 0."""
    ramp: float = Field(default=0.5, gt=0, le=1)
    """Fraction of training in which ε grows."""

    @model_validator(mode="after")
    def _reaches_its_radius(self) -> "IntervalBounds":
        if self.warm_up + self.ramp > 1:
            raise ValueError(
                f"warm_up {self.warm_up} and ramp {self.ramp} add up to more than 1: ε would never reach its target"
            )
        return self

    @property
    def through_layers(self) -> bool:
        return False

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        grown = min(max((batch.progress - self.warm_up) / self.ramp, 0.0), 1.0)
        if grown == 0:
            return batch.task.losses(model(crafted), batch.y)
        kappa = 1 - grown * (1 - self.final_kappa)
        low, high = batch.bounds.box(crafted, grown * self.epsilon)
        plain, worst = (
            batch.task.losses(logits, batch.y) for logits in logits_and_worst(model, crafted, low, high, batch.y)
        )
        return kappa * plain + (1 - kappa) * worst
