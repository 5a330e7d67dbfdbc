"""A study on records of patients trains for patients, alone and at clients, and its dry run says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.executors import LocalExecutor
from assay.release.charge import forecast_charge
from assay.study.plan import forecast_study, load_datasets, plan
from assay.study.reading import build_study
from assay.study.training import network_of, prepare_records, train_trial


@pytest.fixture
def grouped(tmp_path: Path) -> Any:
    """A private trial on records of patients: ``grouped(recipe)``, and ``grouped.study(privacy)``."""
    draw = np.random.default_rng(0)
    groups = np.repeat([f"P{k}" for k in range(24)], 5)
    np.savez(
        tmp_path / "made.npz", x=draw.normal(size=(120, 4)).astype(np.float32), y=np.arange(120) % 2, groups=groups
    )

    def study(privacy: dict[str, Any], recipe: dict[str, Any] | None = None) -> Any:
        private = {"privacy": {"epsilon": 8, "delta": 1e-3, **privacy}, "training": {"epochs": 2, "batch_size": 4}}
        raw = {
            "name": "made",
            "split": {"folds": 2},
            "cohorts": {
                "made": {
                    "dataset": {"name": "arrays", "path": str(tmp_path / "made.npz"), "low": -5, "high": 5},
                    "model": {"name": "mlp", "hidden": [4]},
                    "recipes": {"standard": {}, "private": {**private, **(recipe or {})}},
                    "evaluations": ["privacy"],
                }
            },
        }
        return build_study(raw, "made")

    def trial(recipe: dict[str, Any]) -> Any:
        made = study({}, recipe)
        datasets = load_datasets(made)
        (first, *_) = [one for one in plan(made, datasets) if one.recipe_name == "private"]
        return first, datasets["made"]

    trial.study = study  # type: ignore[attr-defined]
    return trial


def test_a_federated_client_protects_its_own_patients(grouped: Any) -> None:
    trial, dataset = grouped({"federation": {"clients": 2, "rounds": 1, "local_epochs": 2}})
    _, log = train_trial(trial, LocalExecutor(), dataset).open(network_of(trial, dataset))
    mechanisms = [log.mechanism(name) for name in ("1", "2")]
    expected = forecast_charge(trial, dataset, prepare_records(trial, dataset)[1].train)
    assert {name: own[0] for name, own in expected.items()} == dict(zip("12", mechanisms, strict=True))
    assert {one.unit for one in mechanisms} == {"patient"}


def test_a_study_trains_for_patients_and_its_dry_run_says_so(grouped: Any) -> None:
    trial, dataset = grouped({})
    _, log = train_trial(trial, LocalExecutor(), dataset).open(network_of(trial, dataset))
    mechanism = log.mechanism("central")
    train = prepare_records(trial, dataset)[1].train
    patients = len(np.unique(dataset.groups[train]))
    assert mechanism.unit == "patient" and mechanism.sample_rate == pytest.approx(4 / patients)
    assert forecast_charge(trial, dataset, train) == {"central": (mechanism,)}
    (told,) = [one for one in forecast_study(grouped.study({})) if one.recipe == "private"]
    assert f"for one patient of {patients};" in told.spends
    assert f"{mechanism.steps} steps" in told.spends
    (by_record,) = [one for one in forecast_study(grouped.study({"unit": "record"})) if one.recipe == "private"]
    assert f"for one record of {len(train)}, not for one of {patients} patients" in by_record.spends
