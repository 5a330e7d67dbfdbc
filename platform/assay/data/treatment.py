"""What happens to the training records: poisoning and sanitation before anything is learnt, the rest while."""

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
    """Training records on their way through treatments."""

    x: np.ndarray
    """(n, ...) float32; of text it may be (n, length) int32."""
    y: np.ndarray
    """(n,) int64."""
    tampered: np.ndarray
    """(n,) bool: changed by an attacker. For the evidence alone: no defence may look at it."""

    def only(self, kept: np.ndarray) -> "TrainingRecords":
        """Those that a mask (n,) or positions name."""
        return TrainingRecords(x=self.x[kept], y=self.y[kept], tampered=self.tampered[kept])


class Learnt(Protocol):
    """A network that has learnt. Data come before models, so a treatment that needs a network is handed one."""

    def logits(self, x: Tensor) -> Tensor:
        """(n, classes) of records (n, ...)."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """(n, d): what the last linear layer is given. It can be differentiated by the records."""
        ...


class Fit(Protocol):
    """Trains the recipe's network from its first weights, with the standard objective."""

    def __call__(self, records: TrainingRecords, *, epochs: int | None = None) -> Learnt:
        """The network after so many passes over these records; as many as the recipe trains by default."""
        ...


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What a treatment may use beside the records."""

    classes: int
    bounds: Bounds
    """Bounds of a valid record."""
    fit: Fit
    generator: np.random.Generator
    task: Task
    """What labels are: gives the loss of a record."""
    targets: np.ndarray
    """(k, ...) the records that this treatment holds out: see ``Treatment.hold_out``."""


class Treatment(Method):
    """Register with ``@register("treatment")`` and write ``apply``, ``augment`` or ``weigh``."""

    defends: ClassVar[bool] = False
    """Whether this is a defence: without those, a recipe is the undefended one."""
    attacks: ClassVar[bool] = False
    """Whether this is an attacker's work: a defence that removes records must come after it."""
    once: ClassVar[bool] = False
    """Whether a recipe takes one of this kind at most, because the evaluation of it measures one."""

    @property
    def per_record(self) -> bool:
        """Whether what becomes of a record depends on that record alone, as record-level privacy demands."""
        return True

    def hold_out(self, y: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Positions of the records that training never sees, because the attack is aimed at them.

        Args:
            y: (n,) labels before any treatment: an evaluation that draws again finds the same records.
        """
        return np.arange(0)

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        """The records as this treatment leaves them, once and before anything is learnt."""
        return records

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        """Each record of a batch, (n, ...), as training sees it this time; a record must not depend on another."""
        return x

    def weigh(self, losses: Tensor) -> Tensor:
        """How much each record of a whole batch counts, (n,), 1 on average, by its loss (n,), at every step."""
        return torch.ones_like(losses)

    @property
    def treats(self) -> bool:
        """Whether this changes the records themselves, all at once."""
        return type(self).apply is not Treatment.apply

    @property
    def augments(self) -> bool:
        """Whether this changes batches as they are drawn."""
        return type(self).augment is not Treatment.augment

    @property
    def weighs(self) -> bool:
        """Whether this weighs the losses of a batch."""
        return type(self).weigh is not Treatment.weigh


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What treatments did, in numbers of records."""

    tampered: int = 0
    """Records that an attacker changed."""
    removed: int = 0
    removed_tampered: int = 0
    """How many of the removed an attacker had changed."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            tampered=self.tampered + other.tampered,
            removed=self.removed + other.removed,
            removed_tampered=self.removed_tampered + other.removed_tampered,
        )


@dataclass(frozen=True, kw_only=True)
class Treated:
    """What is left to learn from, and what happened on the way."""

    x: np.ndarray
    y: np.ndarray
    given: int
    """Records before the first treatment, without those that an attack holds out."""
    steps: dict[str, Counts]
    """What each treatment did, in order, by its name."""

    @property
    def total(self) -> Counts:
        """What all treatments did together."""
        return sum(self.steps.values(), start=Counts())

    @property
    def counts(self) -> dict[str, int]:
        """The numbers alone, JSON-able: of all treatments, and of each as ``name.number``."""
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
    """Apply treatments one after the other.

    Raises:
        DataError: no record is left, or only one class is where there were several.
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
    """Positions of the records at which each treatment aims, by its name; none of them is trained on.

    Args:
        y: (n,) labels of the training records before any treatment.
        seed: of the training.
    """
    return {
        name: treatment.hold_out(y, generator=seeds.stream(seed, "held out", number, treatment.name))
        for name, number, treatment in _numbered(treatments)
    }


def _numbered(treatments: Sequence[Treatment]) -> list[tuple[str, int, Treatment]]:
    """Each treatment with a name of its own, and how many of its kind came before: others change no draw of it."""
    found: list[tuple[str, int, Treatment]] = []
    for treatment in treatments:
        number = sum(other.name == treatment.name for _, _, other in found)
        found.append((f"{treatment.name} {number + 1}" if number else treatment.name, number, treatment))
    return found


def _counted(before: TrainingRecords, after: TrainingRecords) -> Counts:
    removed, changed = len(before.y) - len(after.y), int(after.tampered.sum()) - int(before.tampered.sum())
    return Counts(removed=removed, removed_tampered=-changed) if removed else Counts(tampered=changed)
