"""A small finished study to serve from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study

RECIPES: dict[str, Any] = {
    "standard": {"training": {"epochs": 4, "learning_rate": 0.01}},
    "private": {"training": {"epochs": 2, "batch_size": 512}, "privacy": {"epsilon": 3}},
    "released": {"training": {"epochs": 2, "batch_size": 512}, "privacy": {"epsilon": 3, "noise": "entropy"}},
    "late": {},
}


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recipes on the first of two folds; ``late`` has not finished."""
    folder = tmp_path_factory.mktemp("results")
    cohort = {
        "dataset": "wdbc",
        "model": {"name": "mlp", "hidden": [8]},
        "evaluations": ["accuracy", "certificates", "privacy", "membership"],
        "recipes": RECIPES,
    }
    study = build_study({"name": "small", "split": {"folds": 2}, "cohorts": {"wdbc": cohort}}, "test")
    store, datasets = Store(str(folder)), load_datasets(study)
    trials = plan(study, datasets)
    write_study(study, store, {trial.id: trial.label for trial in trials}, {})
    for trial in trials:
        if trial.fold == 0 and trial.recipe_name != "late":
            store.write(run_trial(trial, LocalExecutor(), datasets["wdbc"]))
    return folder


@pytest.fixture(scope="session")
def store(results: Path) -> Store:
    return Store(str(results))


@pytest.fixture(scope="module")
def cluster_environment_not_checked() -> Iterator[None]:
    """Applications are built without the environment of a cluster, which ``auth/test_environment.py`` tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.app.require_shared", lambda *_, **__: None)
        yield
