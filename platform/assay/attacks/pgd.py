"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), L∞ and L2."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import ascend, random_start, summit
from assay.attacks.base import Attack
from assay.attacks.curve import answers_alike, warm_curve
from assay.attacks.losses import LossName
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class PGD(Attack):
    """Signed (L∞) or normalised (L2) gradient steps with projection. A record stops at the first point that fools the
    model.

    If the network is randomised, or a surrogate, no record stops early: each takes all steps and keeps the point of the
    highest loss.
    """

    name: Literal["pgd"] = "pgd"
    steps: int = Field(default=20, ge=1)
    loss: LossName = "cross_entropy"
    relative_step: float = Field(default=2.5, gt=0)
    """Step size is ``relative_step * epsilon / steps``; from a warm start it falls from ``steps`` times that to it."""
    restarts: int = Field(default=1, ge=1)
    """The first start is the record itself, later ones are random."""
    momentum: float = Field(default=0.0, ge=0)
    """Momentum of the direction (MI-FGSM, where 1 is usual)."""
    warm_start: bool = True
    """On a curve, whether records that withstood one radius start the next from their current point; otherwise each
    radius is a new run."""

    @property
    def label(self) -> str:
        """``pgd``, the loss, ``steps`` × ``restarts`` and other changed settings, such as ``pgd_margin_100x5``."""
        usual = type(self).model_fields
        parts: list[str] = [self.name]
        if self.loss != usual["loss"].default:
            parts.append(self.loss)
        if (self.steps, self.restarts) != (usual["steps"].default, usual["restarts"].default):
            parts.append(str(self.steps) if self.restarts == 1 else f"{self.steps}x{self.restarts}")
        if self.relative_step != usual["relative_step"].default:
            parts.append(f"step{self.relative_step:g}")
        if self.momentum:
            parts.append(f"momentum{self.momentum:g}")
        return "_".join(parts if self.warm_start else [*parts, "cold"])

    def without_early_stopping(self) -> "PGD":
        return _WithoutEarlyStopping(**self.model_dump())

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        if not answers_alike(model, x):
            return self.without_early_stopping().perturb(model, x, y, threat, draw)
        perturbed, rows = x.clone(), torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            start = x if restart == 0 else random_start(x, threat, draw)
            reached, fooled = ascend(
                model,
                x[rows],
                y[rows],
                threat,
                start=start[rows],
                steps=self.steps,
                step_size=self.relative_step * threat.epsilon / self.steps,
                loss=self.loss,
                keep_fooled=True,
                momentum=self.momentum,
            )
            perturbed[rows] = reached
            if restart + 1 < self.restarts:
                with torch.no_grad():
                    rows = rows[~(fooled | threat.goal(model(reached), y[rows]))]
                if not len(rows):
                    break
        return perturbed

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        # A randomised network may be fooled once by chance, so every radius is attacked from the start.
        if not self.warm_start or len(epsilons) < 2 or not answers_alike(model, x):
            return super().perturb_curve(model, x, y, threat, epsilons, draw)
        return warm_curve(
            model,
            x,
            y,
            [threat.at(epsilon) for epsilon in epsilons],
            loss=self.loss,
            steps=self.steps,
            relative_step=self.relative_step,
            restarts=self.restarts,
            momentum=self.momentum,
            draw=draw,
        )


class _WithoutEarlyStopping(PGD):
    """Takes all steps from every start, and keeps the point of the highest loss."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        sizes = [self.relative_step * threat.epsilon / self.steps] * self.steps
        best, highest = summit(model, x, y, threat, x, sizes, self.loss, self.momentum)
        for _ in range(self.restarts - 1):
            tried, height = summit(model, x, y, threat, random_start(x, threat, draw), sizes, self.loss, self.momentum)
            better = height > highest
            best[better], highest[better] = tried[better], height[better]
        return best
