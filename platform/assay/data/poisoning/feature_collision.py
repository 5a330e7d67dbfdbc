"""Feature-collision attack: poisoned records with correct labels."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.data.poisoning.drawing import drawn
from assay.data.treatment import Learnt, TrainingRecords, Treatment, Workbench
from assay.errors import DataError
from assay.registry import Number, register
from assay.threats import Bounds, Threat

_AT_ONCE = 128
"""Number of records that are moved together; the search keeps their activations in memory."""


@register("treatment")
class FeatureCollision(Treatment):
    """Moves records of the base class onto targets in a network's feature space (arXiv:1804.00792).

    The attack of Shafahi et al. 2018. A network that learns the correct label of these records will predict it for the
    targets, too. The targets are records of other classes that are never trained on; each poisoned record collides with
    one of them. The attack works where the features stay fixed and the last layer learns; a network that is trained
    from its initial weights separates poison and targets again (Schwarzschild et al. 2021, arXiv:2006.12557).

    The attacker knows the records, the architecture and the initial weights, and collides in the features of a network
    that it trains on clean records. Instead of the paper's penalty there is a hard budget on each input, and instead of
    plain steps there are signed ones, so that no step size depends on the units of the data.
    """

    attacks: ClassVar[bool] = True
    once: ClassVar[bool] = True
    name: Literal["feature_collision"] = "feature_collision"
    epsilon: Annotated[Number, Field(gt=0)]
    """Greatest change of one input of a poisoned record (L∞), in the units of the data."""
    share: float = Field(default=0.05, gt=0, lt=1)
    """Fraction of the training records that is poisoned; the base class must have as many."""
    base: int = Field(default=0, ge=0)
    """The class that is to be predicted for the targets."""
    targets: int = Field(default=5, ge=1)
    """Number of records that are held out as targets; every other class keeps at least half of its records."""
    steps: int = Field(default=100, ge=1)
    opacity: float = Field(default=0.3, ge=0, lt=1)
    """Opacity of the target over the record from which the search starts: the paper's watermark, clipped to the budget.
    """

    @property
    def per_record(self) -> bool:
        return False

    def hold_out(self, y: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        spare = [
            generator.permutation(np.flatnonzero(y == label))[: (y == label).sum() // 2]
            for label in np.unique(y[y != self.base])
        ]
        return np.sort(generator.permutation(np.concatenate([np.arange(0), *spare]))[: self.targets])

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        if self.base >= bench.classes:
            message = f"feature_collision: base is {self.base}, and classes run from 0 to {bench.classes - 1}"
            raise DataError(message, setting="feature_collision.base", given=self.base, allowed=range(bench.classes))
        if records.x.dtype.kind != "f":
            raise DataError(
                "feature_collision: positions of words cannot be moved a little; give the texts embedding=encoder, "
                "whose records are vectors, or leave it out",
                setting="data",
                given=self.name,
                allowed="embedding=encoder",
            )
        if not len(bench.targets):
            raise DataError(
                f"feature_collision: no class but the base, {self.base}, has two records, of which one could be held "
                "out to aim at; choose another base, or leave it out",
                setting="feature_collision.base",
                given=self.base,
            )
        base_rows, among = np.flatnonzero(records.y == self.base), f"of the base class, {self.base}"
        chosen = drawn(self.name, self.share, base_rows, len(records.y), among=among, generator=bench.generator)
        aims = bench.targets[np.arange(len(chosen)) % len(bench.targets)]
        x, tampered = records.x.copy(), records.tampered.copy()
        learnt = bench.fit(records)
        for start in range(0, len(chosen), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            x[chosen[part]] = self.collide(learnt, x[chosen[part]], aims[part], bench.bounds)
        tampered[chosen] = True
        return replace(records, x=x, tampered=tampered)

    def collide(self, learnt: Learnt, x: np.ndarray, targets: np.ndarray, bounds: Bounds) -> np.ndarray:
        """Returns records that are moved, within the budget, towards their targets in feature space.

        Args:
            learnt: the network whose features are used.
            x: (n, ...) records.
            targets: (n, ...) one for each record.
            bounds: of a valid record.

        Returns:
            (n, ...) the nearest points that were found.
        """
        original, aim = torch.from_numpy(x), torch.from_numpy(targets)
        threat = Threat(norm="linf", epsilon=self.epsilon, bounds=bounds)
        goal = learnt.features(aim).detach()
        nearest, least = original, _apart(learnt, original, goal).detach()
        point = threat.project(original + self.opacity * (aim - original), original)
        for _ in range(self.steps):
            point = point.detach().requires_grad_(True)
            distance = _apart(learnt, point, goal)
            (gradient,) = torch.autograd.grad(distance.sum(), point)
            nearest, least = _nearer(nearest, least, point.detach(), distance.detach())
            point = threat.project(point.detach() - 2.5 * self.epsilon / self.steps * gradient.sign(), original)
        return _nearer(nearest, least, point, _apart(learnt, point, goal).detach())[0].numpy()


def _apart(learnt: Learnt, x: Tensor, goal: Tensor) -> Tensor:
    """Returns the squared distance of each record from its goal in feature space, (n,)."""
    return (learnt.features(x) - goal).square().sum(1)


def _nearer(held: Tensor, least: Tensor, point: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns, for each record, the point that is nearer to its goal, and its distance."""
    closer = (distance < least).view(-1, *[1] * (held.dim() - 1))
    return torch.where(closer, point, held), torch.minimum(distance, least)
