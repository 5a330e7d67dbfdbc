"""The Pareto front holds what nothing beats."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from assay.report.sweep import ACCURACY, EPSILON, ROBUST, goals, pareto, publish_sweep, results
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.run import write_study
from assay.study.spec import Study
from assay.study.sweep import Sweep


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


def test_the_page_says_what_choosing_the_best_costs(study: Callable[..., Study], tmp_path: Path) -> None:
    base = study({"private": {"privacy": {"epsilon": 8}}})
    sweep, store = Sweep(space="privacy", study=base, keys=("training.epochs",)), Store(str(tmp_path))
    recipe = sweep.recipe_at({"training.epochs": 1}).model_dump(mode="json")
    store.write(
        TrialRecord(
            trial="t0",
            dataset="made",
            model="mlp",
            recipe="epochs-1",
            fold=0,
            repeat=0,
            seconds=1.0,
            measurements=(Measurement(name="accuracy", value=0.9, n=20),),
            provenance={"asked": {"recipe_name": "epochs-1", "recipe": recipe}},
        )
    )
    write_study(base, store, {}, {"git_commit": ""})
    (cohort,) = base.cohorts.values()
    table = results(sweep, store, 0.3)
    for said in ("Choosing the best of 3 private trials costs ε = 2.00", ""):
        page = Path(publish_sweep(sweep, table, store, cohort.load(), 0.3, choice=said)).read_text()
        assert said in page and ("Each ε in the table covers one training alone" in page) == bool(said)
