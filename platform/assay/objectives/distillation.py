"""Defensive distillation (Papernot et al. 2016, arXiv:1511.04508)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.objectives.base import Batch, Objective
from assay.objectives.standard import Standard
from assay.registry import register


@register("objective")
class Distillation(Objective):
    """Trains on the softened probabilities of a teacher of the same architecture, at the same temperature.

    The trained model is used at temperature 1, so its logits are ``temperature`` times larger than usual and the
    softmax
    saturates. Gradients of the cross-entropy vanish, which stops weak attacks but is no defence (Carlini & Wagner 2017,
    arXiv:1608.04644). In a private recipe the teacher uses part of the same budget.
    """

    name: Literal["distillation"] = "distillation"
    temperature: float = Field(default=20.0, ge=1)

    @property
    def teachers(self) -> tuple[Objective, ...]:
        return (Standard(temperature=self.temperature),)

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        assert batch.teacher is not None, "the stage before this one trains the teacher"
        with torch.no_grad():
            teacher_logits = batch.teacher(batch.x) / self.temperature
        return batch.task.imitation(model(crafted) / self.temperature, teacher_logits)
