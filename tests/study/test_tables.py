"""A table from file to figures: trials, what they may claim, what the plan promises before, and a given model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.data.base import Dataset
from assay.data.splits import split
from assay.errors import DataError, IncompatibleRecipeError
from assay.executors import LocalExecutor
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.external import evaluate_given, given_study
from assay.study.measure import run_trial
from assay.study.plan import forecast_study, load_datasets, plan
from assay.study.reading import build_study
from assay.study.spec import Study

N = 120
STATED = {
    "age": {"range": [0, 120], "unit": "years"},
    "dose": {"range": [-5, 15], "fill": 5},
    "sex": {"categories": ["f", "m"]},
}


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A file of 120 records: a number that decides, one with gaps, a category."""
    generator = np.random.default_rng(0)
    age, sex = generator.integers(20, 90, N), np.where(generator.random(N) < 0.5, "f", "m")
    dose = [f"{d:.2f}" if i % 9 else "" for i, d in enumerate(generator.normal(5, 1, N))]
    ill = np.where(generator.random(N) < 0.1, generator.random(N) < 0.5, age > 55)
    rows = [f"{a},{d},{s},{'yes' if y else 'no'}" for a, d, s, y in zip(age, dose, sex, ill, strict=True)]
    (tmp_path / "ward.csv").write_text("\n".join(["age,dose,sex,ill", *rows]))
    return str(tmp_path / "ward.csv")


def study(dataset: dict[str, Any], recipes: dict[str, Any], evaluations: tuple[Any, ...] = ("privacy",)) -> Study:
    cohort = {
        "dataset": dataset,
        "model": {"name": "mlp", "hidden": [8]},
        "recipes": recipes,
        "evaluations": list(evaluations),
    }
    return build_study({"name": "s", "cohorts": {"c": cohort}, "split": {"folds": 3}}, "s.yaml")


QUICK = {"epochs": 8, "batch_size": 40, "learning_rate": 0.05}
PRIVATE = {"private": {"training": QUICK, "privacy": {"epsilon": 3, "delta": 1e-3}}}


def trial_of(asked: Study) -> tuple[TrialRecord, Dataset]:
    dataset = load_datasets(asked)["c"]
    first = plan(asked, {"c": dataset})[0]
    return run_trial(first, LocalExecutor(), dataset), dataset


def found(record: TrialRecord, name: str) -> Measurement:
    assert not record.error, record.error
    return next(m for m in record.measurements if m.name == name)


@pytest.mark.parametrize(
    ("kinds", "claimed"), [({}, False), ({"age": STATED["age"]}, False), (STATED, True)], ids=["none", "one", "all"]
)
def test_the_plan_promises_an_epsilon_where_the_trial_claims_one(
    table: str, kinds: dict[str, Any], claimed: bool
) -> None:
    asked = study({"name": "table", "path": table, "label": "ill", "kinds": kinds}, PRIVATE)
    (promised,) = forecast_study(asked)
    epsilon = found(trial_of(asked)[0], "epsilon")
    assert (epsilon.status == "measured") is claimed
    assert promised.spends.startswith("no ε can be claimed (✖)") is not claimed
    if not claimed:
        assert "range: [least, greatest]" in promised.spends and "range: [least, greatest]" in epsilon.warnings[0]


@pytest.mark.parametrize(
    ("settings", "claimed"),
    [
        ({}, False),
        ({"low": -9, "high": 9}, False),
        ({"public_preprocessing": True}, False),
        ({"public_preprocessing": True, "ranges": {"feature 0": [-9, 9]}}, False),
        ({"public_preprocessing": True, "low": -9, "high": 9}, True),
        ({"public_preprocessing": True, "ranges": {f"feature {i}": [-9, 9] for i in range(3)}}, True),
    ],
)
def test_so_it_does_of_arrays(tmp_path: Path, settings: dict[str, Any], claimed: bool) -> None:
    x = np.random.default_rng(0).normal(size=(N, 3))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(N) % 2)
    asked = study({"name": "arrays", "path": str(tmp_path / "a.npz"), **settings}, PRIVATE)
    (promised,) = forecast_study(asked)
    assert promised.spends.startswith("no ε can be claimed (✖)") is not claimed
    assert (found(trial_of(asked)[0], "epsilon").status == "measured") is claimed
    absent = study({"name": "arrays", "path": str(tmp_path / "gone.npz"), **settings}, PRIVATE)
    unknown = claimed or "ranges" in settings  # which features there are is not known without the file
    assert next(forecast_study(absent)).spends.startswith("no ε can be claimed (✖)") is not unknown


@pytest.mark.parametrize("embedding", ["learned", "word2vec", {"name": "learned", "vocabulary": "words.txt"}])
def test_so_it_does_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedding: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("some\nwords\n")
    lines = [f"some words {'good' if i % 2 else 'bad'} {i % 7},{i % 2}" for i in range(60)]
    (tmp_path / "notes.csv").write_text("\n".join(["text,label", *lines]))
    asked = study({"name": "text_file", "path": "notes.csv", "embedding": embedding}, PRIVATE)
    (promised,) = forecast_study(asked)
    assert promised.spends.startswith("no ε can be claimed (✖)") is isinstance(embedding, str)
    dataset = load_datasets(asked)["c"]
    prepared = dataset.prepared(np.arange(40), seed=0)
    assert prepared.unpaid_preprocessing is bool(dataset.owes)


def test_published_data_owe_nothing(wdbc: Dataset) -> None:
    assert wdbc.owes == ""
    assert next(forecast_study(study({"name": "wdbc"}, PRIVATE))).spends.startswith("ε ≤ 3")


def test_clients_prepare_nothing_together(table: str) -> None:
    recipes = {"federated": {"training": QUICK, "federation": {"clients": 2, "rounds": 2}}}
    asked = study({"name": "table", "path": table, "label": "ill"}, recipes, ("accuracy",))
    assert next(forecast_study(asked)).spends.startswith("cannot run")
    record, _ = trial_of(asked)
    assert record.error.startswith(IncompatibleRecipeError.__name__)
    stated = study({"name": "table", "path": table, "label": "ill", "kinds": STATED}, recipes, ("accuracy",))
    assert next(forecast_study(stated)).spends == "not private (ε = ∞)"
    assert found(trial_of(stated)[0], "accuracy").status == "measured"


def test_a_trial_on_a_table_learns_and_says_what_epsilon_is(table: str) -> None:
    robustness = {
        "name": "robustness",
        "epsilons": [0, 0.2],
        "steps": 3,
        "carlini_wagner": {"steps": 2, "search_steps": 1},
    }
    recipes = {"standard": {"training": {**QUICK, "epochs": 40}}}
    evaluations: tuple[Any, ...] = ({"name": "accuracy", "draws": 50}, robustness, {"name": "shift", "draws": 50})
    asked = study({"name": "table", "path": table, "label": "ill", "kinds": STATED}, recipes, evaluations)
    record, _ = trial_of(asked)
    accuracy = found(record, "accuracy")
    assert accuracy.value > 0.75
    scales = {m.conditions["feature"]: (m.value, m.unit) for m in record.measurements if m.name == "feature_scale"}
    assert scales == {"age": (30.0, "years"), "dose": (5.0, "own unit of the feature")}
    check = found(record, "check.features_of_one_scale")
    assert check.verdict == "pass"
    assert found(record, "worst_case_accuracy").status == "measured"


def test_unscaled_features_are_warned_of_by_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(1, 1, size=(N, 3)) * [1, 0.5, 200]
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(N) % 2, feature_names=["bmi", "pedigree", "glucose"])
    recipes = {"standard": {"training": {**QUICK, "epochs": 2}}}
    evaluations = (
        {"name": "accuracy", "draws": 50},
        {"name": "robustness", "epsilons": [0, 1], "steps": 2, "records": 20},
    )
    asked = study({"name": "arrays", "path": str(tmp_path / "a.npz")}, recipes, evaluations)
    record, _ = trial_of(asked)
    for name in ("accuracy", "worst_case_accuracy"):
        told = [flag.message for flag in found(record, name).flags if "times the smallest" in flag.message]
        assert told and "glucose" in told[0] and "pedigree" in told[0]


def test_a_given_model_takes_a_table_whose_scales_are_stated(table: str, tmp_path: Path) -> None:
    save_file(torch.nn.Linear(3, 2).state_dict(), tmp_path / "m.safetensors")
    settings = {"name": "table", "path": table, "label": "ill"}

    def evaluated(kinds: dict[str, Any]) -> TrialRecord:
        asked = given_study(
            "g", model="test_tables_network:net", data={**settings, "kinds": kinds}, threat="linf:0.1", seed=0
        )
        few = tuple(one for one in asked.cohorts["given"].evaluations if one.name == "accuracy")
        cohort = asked.cohorts["given"].model_copy(update={"evaluations": few})
        asked = asked.model_copy(update={"cohorts": {"given": cohort}})
        store = Store(str(tmp_path / "results"))
        weights = str(tmp_path / "m.safetensors")
        return evaluate_given(asked, load_datasets(asked)["given"], store, weights, environment={})

    (tmp_path / "test_tables_network.py").write_text(
        "from torch import nn\n\n\ndef net() -> nn.Module:\n    return nn.Linear(3, 2)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert found(evaluated(STATED), "accuracy").n == N
        with pytest.raises(DataError) as caught:
            evaluated({})
    assert (caught.value.setting, caught.value.given) == ("kinds", "age")


HEART = Path(os.environ.get("ASSAY_DATA", Path(__file__).parents[3] / "shared" / "data")) / "heart"
COLUMNS = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
]
SITES = ("cleveland", "hungarian", "switzerland", "va")
heart = pytest.mark.skipif(not HEART.is_dir(), reason=f"the heart-disease files of four hospitals are not in {HEART}")
Loaded = Callable[..., Dataset]


def hospitals(**settings: Any) -> dict[str, Any]:
    """Settings for the four headless files, whose zeros of cholesterol are missing values."""
    return {
        "name": "table",
        "path": {site: str(HEART / f"processed.{site}.data") for site in SITES},
        "columns": COLUMNS,
        "label": "num",
        "classes": {"healthy": [0], "ill": [1, 2, 3, 4]},
        "kinds": {"chol": {"missing": [0], "unit": "mg/dl"}, "cp": "category", "thal": "category"},
        **settings,
    }


@heart
def test_four_hospitals_are_read_as_they_are() -> None:
    asked = study(hospitals(), {"standard": {}})
    dataset = load_datasets(asked)["c"]
    told = [*dataset.reading, *dataset.warnings]
    assert told[0] == "920 records, 13 features"
    assert "label num: healthy (411), ill (509); ill is the one to detect" in told
    assert "site: cleveland (303), hungarian (294), switzerland (123), va (200)" in told
    assert "chol: number, 85 to 603 mg/dl; 202 missing" in told
    assert "thal: category, 3, 6, 7, missing; 486 missing" in told
    assert any("trestbps is 0 in 1 records" in line for line in told)


@heart
def test_hospitals_are_held_out_whole_where_they_are_the_group() -> None:
    asked = study(hospitals(group="site"), {"standard": {"training": {**QUICK, "epochs": 20}}}, ("accuracy",))
    dataset = load_datasets(asked)["c"]
    assert dataset.groups is not None and len(dataset) == 920
    settings = asked.split.model_copy(update={"folds": 4})
    tested = []
    for fold in range(4):
        parts = split(dataset, settings, fold=fold, repeat=0, seed=0)
        sides = [set(dataset.groups[rows].tolist()) for rows in (parts.train, parts.validation, parts.test)]
        assert not sides[0] & sides[2] and not sides[1] & sides[2] and not sides[0] & sides[1]
        tested += parts.test.tolist()
    assert sorted(tested) == list(range(920))
    assert found(trial_of(asked)[0], "accuracy").value > 0.6
