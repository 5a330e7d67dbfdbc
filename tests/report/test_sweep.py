"""The Pareto front holds what nothing beats."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from assay.evaluations.base import TrainingLog
from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.report.sweep import ACCURACY, EPSILON, ROBUST, choice_of_best, goals, pareto, publish
from assay.results import Measurement, TrialRecord
from assay.study.run import write_study
from assay.study.spec import Study
from assay.study.store import Store
from assay.study.sweep import Sweep
from assay.training.checkpoints import to_bytes


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


@pytest.fixture
def swept(tmp_path: Path, study: Callable[..., Study]) -> Callable[..., tuple[Sweep, Store]]:
    """A sweep of three private trials, each of so many steps, and perhaps one that is not private."""

    def make(
        *, steps: tuple[int, ...] = (10, 20, 30), plain: bool = False, claimed: bool = True
    ) -> tuple[Sweep, Store]:
        base = study({"private": {"privacy": {"epsilon": 8}}})
        sweep = Sweep(space="privacy", study=base, keys=("training.epochs",))
        store = Store(str(tmp_path))
        for number, count in enumerate((*steps, *((0,) if plain else ()))):
            recipe = sweep.recipe_at({"training.epochs": number + 1})
            if not count:
                recipe = recipe.model_copy(update={"privacy": None})
            log = TrainingLog(
                seconds=1.0,
                worker_seconds=1.0,
                workers=1,
                mechanisms={"central": asdict(mechanism(count))} if count else {},
            )
            epsilon = Measurement(name="epsilon", value=1.0, unit="epsilon", n=20)
            if not (count and claimed):
                epsilon = Measurement(name="epsilon", status="failed", warnings=("unpaid",))
            store.write(
                TrialRecord(
                    trial=f"t{number}",
                    dataset="made",
                    model="mlp",
                    recipe=f"epochs-{number + 1}",
                    fold=0,
                    repeat=0,
                    seconds=1.0,
                    measurements=(Measurement(name="accuracy", value=0.9, n=20), epsilon),
                    weights=to_bytes({"w": torch.zeros(1)}, asdict(log)),
                    provenance={
                        "asked": {"recipe_name": f"epochs-{number + 1}", "recipe": recipe.model_dump(mode="json")}
                    },
                )
            )
        write_study(base, store, {}, {"git_commit": ""})
        return sweep, store

    return make


def mechanism(steps: int) -> Mechanism:
    return Mechanism(noise_multiplier=3.0, sample_rate=0.3, steps=steps, delta=1e-5)


def test_the_report_says_what_choosing_the_best_costs(swept: Callable[..., tuple[Sweep, Store]]) -> None:
    sweep, store = swept()
    choice = choice_of_best(store)
    assert choice.epsilon == pytest.approx(rdp_epsilon(mechanism(60)))
    assert choice.alone == pytest.approx(rdp_epsilon(mechanism(30)))
    said = f"Choosing the best of 3 private trials costs ε = {choice.epsilon:.2f} at δ = 1e-05, not {choice.alone:.2f}"
    assert said in choice.text
    (cohort,) = sweep.study.cohorts.values()
    page = Path(publish(sweep, store, cohort.load(), 0.3)).read_text()
    assert said in page


def test_a_choice_among_trials_that_nothing_bounds_is_bounded_by_nothing(
    swept: Callable[..., tuple[Sweep, Store]],
) -> None:
    assert "1 of 4 trials were not private" in choice_of_best(swept(plain=True)[1]).text


def test_a_choice_among_claims_that_failed_is_bounded_by_nothing(swept: Callable[..., tuple[Sweep, Store]]) -> None:
    assert "could not be claimed" in choice_of_best(swept(claimed=False)[1]).text


def test_where_there_is_no_choice_it_costs_nothing(swept: Callable[..., tuple[Sweep, Store]]) -> None:
    assert choice_of_best(swept(steps=(10,))[1]).text == ""


def test_a_sweep_without_privacy_says_nothing_of_it(swept: Callable[..., tuple[Sweep, Store]]) -> None:
    assert choice_of_best(swept(steps=(), plain=True)[1]).text == ""
