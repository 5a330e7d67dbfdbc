"""Rows on maps that know the record alone: how unusual its values are, by measures that are none of the controls."""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.data.planted.ecg import PlantedECG
from assay.data.planted.table import PlantedTable
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.references import Reference
from assay.registry import build
from assay.results import Finding
from tests.benchmarks.known_answers.arbitrary_maps import digits
from tests.benchmarks.known_answers.deceivers import _Drawn, images, registered, verdict
from tests.benchmarks.known_answers.networks import Score
from tests.benchmarks.known_answers.row import Row, says
from tests.benchmarks.known_answers.trained import Trainer, split_of, subject_of

QUICK: dict[str, Any] = {"records": 60, "measured": 60, "control_draws": 3, "steps": 8, "draws": 50, "retrained": False}


class FromBaseline(_Drawn):
    name: Literal["from_baseline"] = "from_baseline"
    title: ClassVar[str] = "|x − baseline|"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        return (x - reference.baseline(x)).abs()


class Size(_Drawn):
    name: Literal["size"] = "size"
    title: ClassVar[str] = "|x|"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        return x.abs()


class FromOwnMean(_Drawn):
    name: Literal["from_own_mean"] = "from_own_mean"
    title: ClassVar[str] = "|x − mean of the record|"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        return (x - x.mean(tuple(range(1, x.dim())), keepdim=True)).abs()


class SquaredDeviations(_Drawn):
    name: Literal["squared_deviations"] = "squared_deviations"
    title: ClassVar[str] = "squared deviation in standard deviations"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        known = reference.background.to(x)
        spread = known.std(0)
        return ((x - known.mean(0)) / (spread + 0.1 * spread.square().mean().sqrt())).square()


class Rarity(_Drawn):
    name: Literal["rarity"] = "rarity"
    title: ClassVar[str] = "rank of rarity"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        known = reference.background.to(x)
        below = torch.stack([((known < one).double() + (known <= one).double()).mean(0) / 2 for one in x])
        return (below - 0.5).abs().to(x)


class CommonDirection(_Drawn):
    """Deviations in the direction of most of the record's deviations."""

    name: Literal["common_direction"] = "common_direction"
    title: ClassVar[str] = "deviation in the common direction"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        known = reference.background.to(x)
        deviation = x - known.mean(0)
        direction = deviation.flatten(1).sum(1).sign()
        return deviation * direction.view(-1, *[1] * (x.dim() - 1))


KINDS = (FromBaseline, Size, FromOwnMean, SquaredDeviations, Rarity, CommonDirection)


@cache
def wdbc() -> Subject:
    """A network on measurements of cells."""
    data = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    split = split_of(data, seed=3, test=120, train=400)
    prepared = data.prepared(split.train, seed=3)
    trainer = Trainer(data=prepared, model={"name": "mlp", "hidden": (32,)}, seed=3, training={"epochs": 12})
    return subject_of(trainer, split)


@cache
def table() -> Subject:
    """A network on the planted table, where features count by their coefficients."""
    data = PlantedTable().load()
    trainer = Trainer(data=data, model={"name": "mlp", "hidden": (32,)}, seed=3, training={"epochs": 12})
    return subject_of(trainer, split_of(data, seed=3, test=120, train=600))


@cache
def signals() -> Subject:
    """A network on planted heart beats with an inverted T wave."""
    data = PlantedECG(change="inverted_t").load()
    network = {"name": "cnn", "channels": (4, 8), "hidden": 16}
    trainer = Trainer(data=data, model=network, seed=3, training={"epochs": 8, "learning_rate": 0.005})
    return subject_of(trainer, split_of(data, seed=3, test=120, train=600))


@cache
def deviations_decide() -> Subject:
    """A network whose score is the sum of the deviations: its integrated gradients are the deviations."""
    honest = table()
    middle = torch.from_numpy(np.asarray(honest.dataset.x)[honest.split.train]).mean(0)
    network = Score(lambda x: (x - middle.to(x)).abs().sum(1) - 10)
    return subject_of(honest.train, honest.split, network)  # type: ignore[arg-type]


@cache
def equal_weights() -> Subject:
    """A linear network all of whose weights are 1."""
    honest = table()
    return subject_of(honest.train, honest.split, Score(lambda x: x.sum(1)))  # type: ignore[arg-type]


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "wdbc": wdbc, "planted_table": table, "digits": digits, "planted_images": images, "planted_ecg": signals,
}  # fmt: skip


@cache
def said_of(subject: Callable[[], Subject], *, free: bool = True) -> list[Finding]:
    """What the evaluation says of integrated gradients, and of maps that need no model."""
    kinds = KINDS if free else ()
    with registered(*kinds):
        names = tuple(str(kind.model_fields["name"].default) for kind in kinds)
        return list(Explanations(methods=names, **QUICK).measure(subject()))


def _better(subject: Callable[[], Subject], method: str, *, free: bool = True) -> str:
    return verdict(said_of(subject, free=free), "better_than_controls", method)


ROWS = (
    *(
        Row(
            fault="C3",
            name=f"{kind.model_fields['name'].default}_of_{task}",
            input=f"the evaluation of {kind.title}, which needs no model, given as a method on {task}",
            right="warn or inconclusive: not better than controls",
            accepts=lambda given: given in {"warn", "inconclusive"},
            assay=lambda subject=subject, kind=kind: _better(subject, str(kind.model_fields["name"].default)),
        )
        for task, subject in SUBJECTS.items()
        for kind in KINDS
    ),
    *(
        Row(
            fault="C3",
            name=f"integrated_gradients_beat_deviations_on_{task}",
            input=f"the evaluation of integrated gradients of the same network on {task}",
            right="pass",
            accepts=says("pass"),
            assay=lambda task=task: _better(SUBJECTS[task], "integrated_gradients"),
        )
        for task in ("wdbc", "planted_table", "digits")
    ),
    Row(
        fault="C3",
        name="equal_weights",
        input="a linear network with equal weights: integrated gradients are the signed deviations",
        right="pass: they know the sign",
        accepts=says("pass"),
        assay=lambda: _better(equal_weights, "integrated_gradients", free=False),
    ),
    Row(
        fault="C3",
        name="deviations_decide",
        input="a network whose score is the sum of the deviations: integrated gradients are the control itself",
        right="warn or inconclusive: the map tells no more than the deviations",
        accepts=lambda given: given in {"warn", "inconclusive"},
        assay=lambda: _better(deviations_decide, "integrated_gradients", free=False),
    ),
)
