"""PGD towards each wrong class in turn (MultiTargeted; Gowal et al. 2019, arXiv:1910.09338), L∞ and L2."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.curve import answers_alike, warm_curve
from assay.attacks.pgd import PGD
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Threat


@register("attack")
class TargetedPGD(Attack):
    """Maximises the margins of several wrong classes over the label, from random starts, until a record is fooled.

    Plain PGD follows only the best wrong class, and may end in a local maximum of it. With two classes there is one
    target,
    and only the random start differs from PGD. On a curve, surviving records start from their current point, as in
    ``pgd``.
    """

    name: Literal["targeted_pgd"] = "targeted_pgd"
    steps: int = Field(default=20, ge=1)
    """Steps per target and start."""
    targets: int = Field(default=9, ge=1)
    """Number of target classes: those wrong classes with the greatest logits at the record itself."""
    restarts: int = Field(default=1, ge=1)
    """Starts at each radius; the first is warm on a curve, the others are random."""
    relative_step: float = Field(default=2.5, gt=0)
    """Step size is ``relative_step * epsilon / steps``; from a warm start it falls from ``steps`` times that to it."""
    momentum: float = Field(default=0.75, ge=0)
    """Momentum of the direction; it damps oscillation."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", targets="targets", restarts="x", relative_step="step", momentum="momentum")

    def without_early_stopping(self) -> Attack:
        return self._untargeted().without_early_stopping()

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        (perturbed,) = self.perturb_curve(model, x, y, threat, [threat.epsilon], draw)
        return perturbed

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        if not answers_alike(model, x):
            # A randomised network may be fooled once by chance, so every radius is attacked from the start.
            yield from self._untargeted().perturb_curve(model, x, y, threat, epsilons, draw)
            return
        yield from warm_curve(
            model,
            x,
            y,
            [threat.at(epsilon) for epsilon in epsilons],
            loss="margin",
            steps=self.steps,
            relative_step=self.relative_step,
            restarts=self.restarts,
            momentum=self.momentum,
            draw=draw,
            targets=self.targets,
            start_at_random=True,
        )

    def _untargeted(self) -> PGD:
        """Returns the attack for networks that are attacked without early stopping, with the same number of starts."""
        return PGD(
            steps=self.steps,
            loss="margin",
            relative_step=self.relative_step,
            restarts=self.restarts + 1,
            momentum=self.momentum,
        )
