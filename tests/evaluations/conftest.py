"""Subjects made to measure: any model on any records."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.metrics import limits_of, undeclared
from assay.results import Measurement
from assay.training.log import TrainingLog

Make = Callable[..., Subject]


@pytest.fixture(autouse=True)
def _every_figure_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an evaluation gives in these tests it has declared, and what it cannot give has a reason."""
    for evaluation in subclasses(Evaluation):
        monkeypatch.setattr(evaluation, "measure", looked_at(evaluation.measure))


def subclasses(parent: type[Evaluation]) -> Iterator[type[Evaluation]]:
    for child in parent.__subclasses__():
        if "measure" in vars(child):
            yield child
        yield from subclasses(child)


def looked_at(measure: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(measure)
    def measured(self: Evaluation, subject: Subject) -> Any:
        found = measure(self, subject)
        assert undeclared(self.metrics, found) == []
        absent = [one for one in found if isinstance(one, Measurement) and one.status != "measured"]
        assert [one for one in absent if one.reason == "unspecified"] == []
        for one in found:
            if isinstance(one, Measurement) and one.status == "measured":
                least, most = limits_of(one.name, one.unit)
                assert least <= one.value <= most, f"{one.name} = {one.value} is beyond its limits"
        return found

    return measured


@pytest.fixture(scope="session")
def make() -> Make:
    """``make(model, x, y)``: every record is tested, unless ``train`` or ``validation`` holds its position."""

    def subject(
        model: nn.Module,
        x: Any,
        y: Any,
        *,
        train: Any = (),
        validation: Any = (),
        classes: int = 2,
        groups: Any = None,
        about: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Subject:
        x, y = np.asarray(x, np.float32), np.asarray(y, np.int64)
        held = [np.asarray(rows, np.int64) for rows in (train, validation)]
        dataset = Dataset(
            name="made",
            x=x,
            y=y,
            class_names=tuple(f"class {k}" for k in range(classes)),
            feature_names=(),
            groups=None if groups is None else np.asarray(groups),
            **{
                "low": np.full(x.shape[1:], x.min() - 1, np.float32),
                "high": np.full(x.shape[1:], x.max() + 1, np.float32),
                "units": "units",
                "epsilons": (0.0, 0.1, 0.2),
                **(about or {}),
            },
        )
        split = Split(
            train=held[0],
            validation=held[1],
            calibration=np.arange(0),
            test=np.setdiff1d(np.arange(len(x)), np.concatenate(held)),
        )
        defaults: dict[str, Any] = {"recipe": None, "log": None, "seed": 0}
        return Subject(model=model, dataset=dataset, split=split, **{**defaults, **settings})

    return subject


@pytest.fixture(scope="session")
def log() -> Callable[..., TrainingLog]:
    return lambda **settings: TrainingLog(**{"seconds": 2.0, "worker_seconds": 6.0, "workers": 3, **settings})


@pytest.fixture(scope="session")
def one() -> Callable[..., Measurement]:
    """``one(found, name, key=value)``: the only measurement of that name and those conditions."""

    def only(found: list[Measurement], name: str, **conditions: Any) -> Measurement:
        matching = [
            m
            for m in found
            if isinstance(m, Measurement) and m.name == name and conditions.items() <= dict(m.conditions).items()
        ]
        assert len(matching) == 1, f"{len(matching)} measurements of {name} with {conditions}"
        return matching[0]

    return only
