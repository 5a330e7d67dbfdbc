"""Treatments of training records: poisoning and sanitation before training, augmentation and weighting during it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.errors import DataError
from assay.registry import Method
from assay.seeds import Draw
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds


@dataclass(frozen=True, kw_only=True)
class TrainingRecords:
    """Training records before or after a treatment."""

    x: np.ndarray
    """(n, ...) float32; (n, length) int32 for text."""
    y: np.ndarray
    """(n,) int64."""
    tampered: np.ndarray
    """(n,) bool: changed by an attacker. Used by reports only; a defence must not read it."""

    def only(self, kept: np.ndarray) -> "TrainingRecords":
        """Returns some of the records.

        Args:
            kept: (n,) bool, or positions.

        Returns:
            The selected records.
        """
        return TrainingRecords(x=self.x[kept], y=self.y[kept], tampered=self.tampered[kept])


class Learnt(Protocol):
    """A trained network. Treatments receive networks through this protocol: data do not depend on models."""

    def logits(self, x: Tensor) -> Tensor:
        """Returns the logits of records.

        Args:
            x: (n, ...).

        Returns:
            (n, classes).
        """
        ...

    def features(self, x: Tensor) -> Tensor:
        """Returns the inputs of the last linear layer, differentiable with respect to the records.

        Args:
            x: (n, ...).

        Returns:
            (n, d).
        """
        ...


class Fit(Protocol):
    """Trains the recipe's network from its initial weights, with the standard objective."""

    def __call__(self, records: TrainingRecords, *, epochs: int | None = None) -> Learnt:
        """Returns the network after training on some records.

        Args:
            records: to train on.
            epochs: number of passes; as many as the recipe trains by default.

        Returns:
            The trained network.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """Bounds, random numbers and training that a treatment may use in addition to the records."""

    classes: int
    bounds: Bounds
    """Bounds of a valid record."""
    fit: Fit
    generator: np.random.Generator
    task: Task
    """The task: what labels are, and the loss of a record."""
    targets: np.ndarray
    """(k, ...) the records that this treatment holds out; see ``Treatment.hold_out``."""


class Treatment(Method):
    """A change of the training records. Register it with ``@register("treatment")``.

    Write ``apply``, ``augment`` or ``weigh``.
    """

    defends: ClassVar[bool] = False
    """Whether this is a defence: a recipe without defences is the undefended one."""
    attacks: ClassVar[bool] = False
    """Whether this is an attack: a defence that removes records must come after it."""
    once: ClassVar[bool] = False
    """Whether a recipe may contain at most one treatment of this kind, because its evaluation measures only one."""

    @property
    def per_record(self) -> bool:
        """Whether the result for a record depends on that record alone, as record-level privacy requires."""
        return True

    def hold_out(self, y: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Returns positions of the records that are never trained on, because the attack is aimed at them.

        Args:
            y: (n,) labels before any treatment.
            generator: of the draw; an evaluation that repeats it finds the same records.

        Returns:
            (k,) positions; none by default.
        """
        return np.arange(0)

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        """Returns the records after this treatment; called once, before training.

        Args:
            records: after the treatments before this one.
            bench: bounds, random numbers and training.

        Returns:
            The treated records.
        """
        return records

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        """Returns an augmented batch; called each time a batch is drawn. A record must not depend on another.

        Args:
            x: (n, ...) records.
            draw: random numbers for each record.

        Returns:
            (n, ...).
        """
        return x

    def weigh(self, losses: Tensor) -> Tensor:
        """Returns the weights of the records of a batch; called at every step.

        Args:
            losses: (n,) of the whole batch, over all workers.

        Returns:
            (n,) weights with mean 1.
        """
        return torch.ones_like(losses)

    @property
    def treats(self) -> bool:
        """Whether this changes the set of records, before training."""
        return type(self).apply is not Treatment.apply

    @property
    def augments(self) -> bool:
        """Whether this changes batches when they are drawn."""
        return type(self).augment is not Treatment.augment

    @property
    def weighs(self) -> bool:
        """Whether this weighs the losses of a batch."""
        return type(self).weigh is not Treatment.weigh


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of records that treatments changed or removed."""

    tampered: int = 0
    """Number of records that an attacker changed."""
    removed: int = 0
    removed_tampered: int = 0
    """How many of the removed records an attacker had changed."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            tampered=self.tampered + other.tampered,
            removed=self.removed + other.removed,
            removed_tampered=self.removed_tampered + other.removed_tampered,
        )


@dataclass(frozen=True, kw_only=True)
class Treated:
    """Records after all treatments, and the numbers of changes."""

    x: np.ndarray
    y: np.ndarray
    given: int
    """Number of records before the first treatment, without those that an attack holds out."""
    steps: dict[str, Counts]
    """Counts of each treatment, in order, by its name."""

    @property
    def total(self) -> Counts:
        """Counts of all treatments together."""
        return sum(self.steps.values(), start=Counts())

    @property
    def counts(self) -> dict[str, int]:
        """All numbers, JSON-able: of all treatments together, and of each as ``name.number``."""
        return {
            "given": self.given,
            **vars(self.total),
            **{f"{name}.{what}": count for name, step in self.steps.items() for what, count in vars(step).items()},
        }


def treat(
    treatments: Sequence[Treatment],
    x: np.ndarray,
    y: np.ndarray,
    *,
    classes: int,
    bounds: Bounds,
    fit: Fit,
    seed: int,
    task: Task = CLASSIFICATION,
) -> Treated:
    """Applies treatments one after the other.

    Args:
        treatments: of the recipe, in order.
        x: (n, ...) training records.
        y: (n,) labels.
        classes: number of classes.
        bounds: of a valid record.
        fit: trains the recipe's network, for treatments that need one.
        seed: of the training.
        task: what labels are.

    Returns:
        The remaining records, with counts.

    Raises:
        DataError: no record is left, or only one class is left where there were several.
    """
    records = TrainingRecords(x=x, y=y, tampered=np.zeros(len(y), bool))
    targets = held_out(treatments, y, seed=seed)
    if aimed_at := np.concatenate([np.arange(0), *targets.values()]).tolist():
        records = records.only(np.setdiff1d(np.arange(len(y)), aimed_at))
    given, steps = len(records.y), {}
    for name, number, treatment in _numbered(treatments):
        if not treatment.treats:
            continue
        bench = Workbench(
            classes=classes,
            bounds=bounds,
            fit=fit,
            task=task,
            generator=seeds.stream(seed, "treatment", number, treatment.name),
            targets=x[targets[name]],
        )
        after = treatment.apply(records, bench)
        steps[name] = _counted(records, after)
        records = after
        if len(np.unique(records.y)) < min(2, len(np.unique(y))):
            raise DataError(
                f"{treatment.name} leaves {len(records.y)} of {len(y)} training records, of "
                f"{len(np.unique(records.y))} class; soften its settings",
                setting="data",
                given=treatment.name,
            )
    return Treated(x=records.x, y=records.y, given=given, steps=steps)


def held_out(treatments: Sequence[Treatment], y: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Returns the positions of the records at which each treatment aims, by its name; none of them is trained on.

    Args:
        treatments: of the recipe, in order.
        y: (n,) labels of the training records before any treatment.
        seed: of the training.

    Returns:
        Positions by name of the treatment.
    """
    return {
        name: treatment.hold_out(y, generator=seeds.stream(seed, "held out", number, treatment.name))
        for name, number, treatment in _numbered(treatments)
    }


def _numbered(treatments: Sequence[Treatment]) -> list[tuple[str, int, Treatment]]:
    """Returns each treatment with a unique name and its number among those of its kind."""
    named: list[tuple[str, int, Treatment]] = []
    for treatment in treatments:
        number = sum(other.name == treatment.name for _, _, other in named)
        named.append((f"{treatment.name} {number + 1}" if number else treatment.name, number, treatment))
    return named


def _counted(before: TrainingRecords, after: TrainingRecords) -> Counts:
    removed, changed = len(before.y) - len(after.y), int(after.tampered.sum()) - int(before.tampered.sum())
    return Counts(removed=removed, removed_tampered=-changed) if removed else Counts(tampered=changed)
