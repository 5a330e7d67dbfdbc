"""The page of a sweep shows every point, the front with what is missing, and what may be said after choosing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ray import tune

from assay.executors import LocalExecutor
from assay.report.figures.sweep import MANY, front
from assay.report.sweep import publish_sweep
from assay.report.sweep_choice import contenders
from assay.report.sweep_table import goals, left_out, pareto, results
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from assay.study.sweep_goals import ACCURACY, EPSILON, ROBUST
from assay.study.sweep_judge import judge_chosen, judged_store
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.sweep_run import run_sweep
from tests.studies import Memory


def test_the_front_holds_what_nothing_beats() -> None:
    table = pd.DataFrame(
        {
            "accuracy": [0.9, 0.8, 0.8, 0.7, 0.9, np.nan],
            "robust": [0.5, 0.7, 0.6, 0.9, 0.5, 1.0],
            "epsilon": np.nan,
        }
    )
    assert goals(table) == [ACCURACY, ROBUST]
    # Two that are equal stay both; what lacks a goal never enters.
    assert pareto(table, goals(table)).tolist() == [True, True, False, True, True, False]


def test_a_smaller_epsilon_is_better() -> None:
    table = pd.DataFrame({"accuracy": [0.9, 0.9, 0.8], "robust": [0.5, 0.5, 0.5], "epsilon": [8.0, 1.0, 0.1]})
    assert goals(table) == [ACCURACY, ROBUST, EPSILON]
    assert pareto(table, goals(table)).tolist() == [False, True, True]


def test_points_without_a_goal_are_listed_with_the_reason() -> None:
    nan = np.nan
    table = pd.DataFrame(
        {
            "recipe": ["whole", "unmeasured", "stopped"],
            "accuracy": [0.9, 0.9, nan],
            "robust": [0.5, nan, nan],
            "missing": ["", "", "stopped at rung 1"],
        }
    )
    assert left_out(table, [ACCURACY, ROBUST]) == {
        "unmeasured": "not measured: worst case",
        "stopped": "stopped at rung 1",
    }


@pytest.mark.parametrize(("points", "kind"), [(MANY, "scatter"), (MANY + 1, "scattergl")])
def test_many_points_are_drawn_by_the_graphics_card(points: int, kind: str) -> None:
    values = np.linspace(0.1, 0.9, points)
    columns = {"recipe": "p", "accuracy": values, "robust": 1 - values, "epsilon": np.nan, "pareto": True}
    bounds = {f"{key}_{end}": values for key in ("accuracy", "robust") for end in ("low", "high")}
    figure = front(pd.DataFrame({**columns, **bounds}), [ACCURACY, ROBUST], 0.1)
    assert figure is not None
    assert {trace.type for trace in figure.data if trace.mode == "markers"} == {kind}


HERE = {"git_commit": ""}
SPACE = {"training.learning_rate": tune.grid_search([0.003, 0.01, 0.03])}


def prepared(study: Study, **settings: Any) -> PreparedSweep:
    given = {
        "asked": ("accuracy", "privacy", "cost"),
        "tested": "validation",
        "space": lambda radius: SPACE,
        **settings,
    }
    return prepare_sweep(study, name="mine", cohort=None, recipe=next(iter(study.cohorts["made"].recipes)), **given)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.studies import write_patients

    return write_patients(tmp_path_factory.mktemp("data") / "patients.npz", n=300)


@pytest.fixture(scope="module")
def ready(sixty: Path) -> PreparedSweep:
    """A sweep of three points over two folds of three hundred patients."""
    from assay.study.reading import build_study

    cohort = {
        "dataset": {"name": "arrays", "path": str(sixty), "low": -4, "high": 5},
        "model": {"name": "mlp", "hidden": [4]},
        "evaluations": [{"name": "accuracy", "draws": 50}, "cost", "privacy"],
        "recipes": {"standard": {"training": {"epochs": 2, "batch_size": 32}}},
    }
    study = build_study({"name": "made", "split": {"folds": 2, "validation": 0.3}, "cohorts": {"made": cohort}}, "made")
    return prepared(study, folds=2)


@pytest.fixture(scope="module")
def swept(ready: PreparedSweep, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Its results."""
    store = Store(str(tmp_path_factory.mktemp("swept")))
    run_sweep(ready, store, LocalExecutor(), watcher=Memory(), environment=HERE)
    return store


def test_the_table_has_the_means_over_the_folds_with_intervals(ready: PreparedSweep, swept: Store) -> None:
    table = results(ready.sweep, swept, ready.radius)
    frame = swept.frame()
    assert table["training.learning_rate"].tolist() == [0.003, 0.01, 0.03]
    for row in table.to_dict("records"):
        own = frame[(frame["recipe"] == row["recipe"]) & (frame["name"] == "accuracy")]
        assert row["accuracy"] == pytest.approx(own["value"].mean()) and row["accuracy_runs"] == row["trials"] == 2
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
        assert row["missing"] == "" and np.isnan(row["epsilon"]) and row["records"] == own["n"].min()


def test_points_are_paired_by_the_records_that_are_stored(ready: PreparedSweep, swept: Store) -> None:
    found = contenders(swept, ACCURACY, ready.radius, test_share=0.3, seed=0)
    assert found.of == 3 and found.how.startswith("paired by record, 90") and found.inflation is not None
    table = results(ready.sweep, swept, ready.radius)
    assert table.loc[table["accuracy"].idxmax(), "recipe"] in found.names
    assert found.inflation.points == 3 and found.inflation.shown >= found.inflation.expected - 0.05


def test_of_few_records_nothing_is_said(study: Callable[..., Study], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for place in range(3):
        measured = Measurement(name="accuracy", value=0.8 + place / 100, n=20)
        store.write(
            TrialRecord(
                trial=f"t{place}", dataset="made", model="mlp", recipe=f"r{place}", fold=0, repeat=0, seconds=1.0,
                measurements=(measured,),
            )
        )  # fmt: skip
    found = contenders(store, ACCURACY, 0.3, test_share=0.3, seed=0)
    assert found.names == frozenset() and "a set needs 30 records or 5 folds" in found.how


def test_the_chosen_of_each_fold_is_judged_once_on_its_test_records(ready: PreparedSweep, swept: Store) -> None:
    trained = {training: swept.checkpoint(training) for training in swept.models()}
    judged = judge_chosen(ready, swept, LocalExecutor())
    frame = swept.frame()
    accuracies = frame[frame["name"] == "accuracy"]
    for one in judged:
        of_fold = accuracies[accuracies["fold"] == one.fold]
        assert one.chosen_by == of_fold["value"].max()
        assert of_fold[of_fold["recipe"] == one.recipe]["value"].item() == one.chosen_by
        assert one.looks == 1 and 0 < one.judged <= 1
    target = judged_store(swept)
    of_test = target.frame()
    assert of_test[of_test["name"] == "accuracy"]["n"].tolist() == [150, 150]
    assert target.models() == [] and {t: swept.checkpoint(t) for t in swept.models()} == trained
    assert set(target.trainings().values()) <= set(trained), "nothing is trained for it"
    before = {path: path.stat().st_mtime_ns for path in Path(target.location).glob("trials/*")}
    assert judge_chosen(ready, swept, LocalExecutor()) == judged
    assert before == {path: path.stat().st_mtime_ns for path in Path(target.location).glob("trials/*")}
    # The results of the sweep itself hold nothing of the test records.
    assert swept.frame().equals(frame) or len(swept.frame()) == len(frame)


def test_the_page_says_what_was_chosen_and_how(ready: PreparedSweep, swept: Store) -> None:
    judged = judge_chosen(ready, swept, LocalExecutor())
    table = results(ready.sweep, swept, ready.radius)
    page = Path(publish_sweep(ready, table, swept, choice="", judged=judged)).read_text()
    for said in (
        "Which points may be the best",
        "The chosen, judged once",
        "A paired test of two points is refused here: these trials were measured on validation",
    ):
        assert said in page
    assert "Each ε in the table covers one training alone" not in page
    told = "Choosing the best of 3 private trials costs ε = 2.00"
    page = Path(publish_sweep(ready, table, swept, choice=told)).read_text()
    assert told in page and "Each ε in the table covers one training alone" in page
    assert "The chosen, judged once" not in page


def test_a_stopped_point_is_shown_and_never_on_the_front(ready: PreparedSweep, tmp_path: Path) -> None:
    study = ready.sweep.study
    settings = {
        "scheduler": "asha",
        "eta": 2,
        "space": lambda radius: {"training.learning_rate": tune.grid_search([0.0001, 0.001, 0.01, 0.03])},
    }
    halved, store = prepared(study, **settings), Store(str(tmp_path))
    outcome = run_sweep(halved, store, LocalExecutor(), watcher=Memory(), environment=HERE)
    table = results(halved.sweep, store, halved.radius)
    stopped = table[table["missing"] != ""]
    assert len(table) == 4 and len(stopped) == outcome.stopped > 0
    assert not stopped["pareto"].any() and stopped["accuracy"].isna().all()
    page = Path(publish_sweep(halved, table, store, choice="")).read_text()
    assert "Not on the front" in page and "stopped at rung 1, after 1 of 2 epochs" in page
    assert all(name in page for name in stopped["recipe"])


def test_an_erased_training_leaves_nothing_at_rungs_and_nothing_that_was_judged(
    ready: PreparedSweep, tmp_path: Path
) -> None:
    settings = {"scheduler": "asha", "eta": 2, "space": lambda radius: SPACE}
    halved, store = prepared(ready.sweep.study, **settings), Store(str(tmp_path))
    run_sweep(halved, store, LocalExecutor(), watcher=Memory(), environment=HERE)
    (one,) = judge_chosen(halved, store, LocalExecutor())
    stopped = {path.name.rpartition("-")[0] for path in tmp_path.glob("rungs/*.json")} - set(store.models())
    (tmp_path / "unfinished" / min(stopped)).mkdir(parents=True, exist_ok=True)
    (judged,) = judged_store(store).trainings().values()
    with store.locked():
        store.delete(min(stopped), judged)
    for training in (min(stopped), judged):
        assert not [path for path in tmp_path.rglob("*") if training in path.name]
    assert judged_store(store).trainings() == {} and one.recipe
    assert {path.name.rpartition("-")[0] for path in tmp_path.glob("rungs/*.json")} == stopped - {min(stopped)} | (
        set(store.models())
    )
