"""Studies of sixty made-up patients, and a watcher that remembers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.base import Dataset
from assay.results import Measurement, TrialRecord
from assay.study.reading import build_study
from assay.study.spec import Study
from assay.study.trial import Trial

QUICK = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}


def write_patients(path: Path, *, seed: int = 0, n: int = 60) -> Path:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = (generator.normal(size=(n, 4)) + y[:, None]).clip(-4, 5).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture
def patients(tmp_path: Path) -> Callable[..., Path]:
    """``patients("folder/name.npz", seed=…)`` writes a data file and returns its path."""
    return lambda name="patients.npz", **settings: write_patients(tmp_path / name, **settings)


@pytest.fixture
def raw(patients: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """A study as a YAML file would say it: two recipes, two folds; ``recipes``, ``cohort`` and more may be given."""

    def build(
        recipes: Mapping[str, Any] | None = None, cohort: Mapping[str, Any] | None = None, **settings: Any
    ) -> dict[str, Any]:
        recipes = recipes or {"standard": {}, "slow": {"training": {"learning_rate": 0.001}}}
        trained = {
            name: {**recipe, "training": {**QUICK, **recipe.get("training", {})}} for name, recipe in recipes.items()
        }
        made = {
            "dataset": {"name": "arrays", "path": str(patients()), "low": -4, "high": 5, "public_preprocessing": True},
            "model": {"name": "mlp", "hidden": [4]},
            "evaluations": [{"name": "accuracy", "draws": 50}, "privacy", "cost"],
            "recipes": trained,
            **(cohort or {}),
        }
        return {"name": "tiny", "split": {"folds": 2}, "cohorts": {"made": made}, **settings}

    return build


@pytest.fixture
def tiny(raw: Callable[..., dict[str, Any]]) -> Callable[..., Study]:
    return lambda *args, **settings: build_study(raw(*args, **settings), "tiny.yaml")


class Memory:
    """A watcher that remembers what it was shown."""

    def __init__(self) -> None:
        self.began: dict[str, int] = {}
        self.started_labels: list[str] = []
        self.rounds: list[tuple[str, int, int]] = []
        self.records: list[TrialRecord] = []
        self.left: list[float] = []
        self.workers: list[int] = []
        self.ended = 0
        self.statuses: list[str] = []
        self.readings: dict[str, tuple[str, ...]] = {}

    def read(self, cohort: str, dataset: Dataset) -> None:
        self.readings[cohort] = dataset.reading

    def begin(self, **told: int) -> None:
        self.began = told

    def started(self, label: str) -> None:
        self.started_labels.append(label)

    def leading(self, trial: Trial, round_number: int, rounds: int) -> None:
        self.rounds.append((trial.recipe_name, round_number, rounds))

    def status(self, said: str) -> None:
        self.statuses.append(said)

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        self.records.append(record)
        self.left.append(seconds_left)
        self.workers.append(workers)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def watcher() -> Callable[[], Memory]:
    return Memory


@pytest.fixture
def record() -> Callable[..., TrialRecord]:
    """A finished trial; ``record("id", error=…)`` is one that failed."""

    def make(trial: str = "t1", *, error: str = "", value: float = 0.9, **settings: Any) -> TrialRecord:
        found = (
            Measurement(name="accuracy", value=value, n=60, low=0.8, high=0.95, conditions={"ε": 0.1, "on": ["a", 1]}),
            Measurement(name="epsilon", status="not_applicable", warnings=("not private", "ε = ∞")),
        )
        defaults: dict[str, Any] = {
            "dataset": "made",
            "model": "mlp",
            "recipe": "standard",
            "fold": 0,
            "repeat": 0,
            "measurements": () if error else found,
            "seconds": 1.5,
            "weights": b"" if error else b"weights",
        }
        return TrialRecord(trial=trial, error=error, **{**defaults, **settings})

    return make


TIMES = ("seconds", "records per second")
"""Units of figures that differ from run to run."""


def without_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of figures that are the same in each run: no times, no speeds."""
    return frame[~frame["unit"].isin(TIMES) & (frame["name"] != "scaling_efficiency")]
