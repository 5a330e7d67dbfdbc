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
    """Climbs the margin of each of several wrong classes over the label, from a random start, until one of them wins.

    PGD by the best wrong class alone stays where that class has a local maximum. Of two classes there is one target,
    and what is new is the random start. On a curve survivors start where they stand, as those of ``pgd`` do.
    """

    name: Literal["targeted_pgd"] = "targeted_pgd"
    steps: int = Field(default=20, ge=1)
    """Steps of each climb."""
    targets: int = Field(default=9, ge=1)
    """Wrong classes that are climbed towards: those with the greatest logits at the record itself."""
    restarts: int = Field(default=1, ge=1)
    """Starts at each radius; all but the warm ones are random."""
    relative_step: float = Field(default=2.5, gt=0)
    """Step size is ``relative_step * epsilon / steps``; from a warm start it falls to that from ``steps`` times it."""
    momentum: float = Field(default=0.75, ge=0)
    """Share of the last direction that enters the next one: a climb that swings between two slopes goes on."""

    @property
    def label(self) -> str:
        return self._labelled(steps="", targets="targets", restarts="x", relative_step="step", momentum="momentum")

    def without_early_stopping(self) -> Attack:
        return self._untargeted().without_early_stopping()

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        (found,) = self.perturb_curve(model, x, y, threat, [threat.epsilon], draw)
        return found

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        if not answers_alike(model, x):
            # What fooled a network whose answers vary need not do so again.
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
        """What is run where a network is attacked to the end, with as many starts."""
        return PGD(
            steps=self.steps,
            loss="margin",
            relative_step=self.relative_step,
            restarts=self.restarts + 1,
            momentum=self.momentum,
        )
