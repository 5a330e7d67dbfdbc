"""Subjects made to measure: any model on any records."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.base import Subject
from assay.results import Measurement
from assay.training.log import TrainingLog

Make = Callable[..., Subject]


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
