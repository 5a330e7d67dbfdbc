"""Fast adversarial training: FGSM from a random start (Wong et al. 2020, arXiv:2001.03994)."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from assay.attacks.ascent import ascend, random_start
from assay.objectives.base import Batch, Objective, Watch
from assay.registry import Number, register


@register("objective")
class FastAdversarial(Objective):
    """Cross-entropy after one signed gradient step (L∞) from a random point of the ball: one extra pass, not seven.

    With a step much above 1.25 ε, or a large ε, training may overfit to the single step and lose all robustness against
    PGD. A guard detects this. After each rollback, training uses twice as many steps of half the size.
    """

    name: Literal["fast"] = "fast"
    epsilon: Number = Field(gt=0)
    """Radius of the examples, in the units of the data."""
    relative_step: float = Field(default=1.25, gt=0)
    """Size of the step, in ε."""
    watch: Watch | None = Watch()
    """Overfitting guard; ``null`` switches it off. Private training needs ``null``, because the guard reads training
    records without an ε of its own."""

    @property
    def watching(self) -> Watch | None:
        return self.watch

    def craft(self, model: nn.Module, batch: Batch) -> Tensor:
        return self._climbed(model, batch, steps=2**batch.rollbacks, length=self.relative_step)

    def verify(self, model: nn.Module, batch: Batch) -> Tensor:
        assert self.watch is not None
        return self._climbed(model, batch, steps=self.watch.steps, length=2.5, keep_fooled=True)

    def _climbed(
        self, model: nn.Module, batch: Batch, *, steps: int, length: float, keep_fooled: bool = False
    ) -> Tensor:
        """Returns the records after this many steps from a random start; the steps add up to ``length`` radii."""
        x, bounds = batch.movable(model)
        threat = batch.threat(bounds, epsilon=self.epsilon)
        start = random_start(x, threat, batch.draw)
        size = length * self.epsilon / steps
        perturbed, _ = ascend(
            model,
            x,
            batch.y,
            threat,
            start=start,
            steps=steps,
            step_size=size,
            loss=batch.task.losses,
            keep_fooled=keep_fooled,
        )
        return perturbed

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return batch.task.losses(model(batch.moved(model, crafted)), batch.y)
