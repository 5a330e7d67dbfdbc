"""A point of a sweep is the trial that a study of its recipe would run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import SpecError
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.spec import Study
from assay.study.sweep import Sweep, base_of, point_name, prepare_sweep, study_of
from tests.mistakes import refused

PGD = {"objective": {"name": "pgd", "epsilon": 0.3, "steps": 7}}
KEYS = ("objective.epsilon", "objective.steps")
POINT = {"objective.epsilon": 0.1, "objective.steps": 3, "fold": 1}


def study(**recipes: object) -> Study:
    cohort = {"dataset": "wdbc", "recipes": {"standard": {}, "pgd": PGD, **recipes}}
    return build_study({"name": "two", "seed": 3, "split": {"folds": 2}, "cohorts": {"wdbc": cohort}}, "test")


@pytest.fixture
def sweep() -> Sweep:
    base = base_of(study(), cohort=None, recipe="pgd", asked=("accuracy", "cost"), tested="test")
    return Sweep(space="adversarial", study=base, keys=KEYS)


def test_a_point_is_the_trial_of_an_ordinary_study(sweep: Sweep) -> None:
    cohort = {
        "dataset": "wdbc",
        "evaluations": ["accuracy", "cost"],
        "recipes": {"epsilon-0.1_steps-3": {"objective": {"name": "pgd", "epsilon": 0.1, "steps": 3}}},
    }
    raw = {"name": "plain", "seed": 3, "split": {"folds": 2}, "cohorts": {"wdbc": cohort}}
    ordinary = build_study(raw, "test")
    datasets = load_datasets(ordinary)
    assert sweep.trial(POINT, datasets["wdbc"]).id == plan(ordinary, datasets)[1].id
    points = [{**POINT, "fold": fold} for fold in (0, 1)]
    kept = study_of(sweep, points)
    assert [t.id for t in plan(kept, datasets)] == [sweep.trial(point, datasets["wdbc"]).id for point in points]


def test_names_tell_points_apart_and_fit_a_path() -> None:
    assert point_name({"training.learning_rate": 0.000123456789, "training.batch_size": 64}) == (
        "learning_rate-0.000123457_batch_size-64"
    )


@pytest.mark.parametrize(
    ("keys", "point", "fields"),
    [
        (
            ("objective.radius",),
            {"objective.radius": 1},
            ("mine", "objective.radius"),
        ),
        (("privacy.epsilon",), {"privacy.epsilon": 1}, ("mine", "privacy.epsilon")),
        (KEYS, {"objective.epsilon": -1.0, "objective.steps": 3}, ("objective.epsilon", -1.0)),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    sweep: Sweep, keys: tuple[str, ...], point: dict[str, float], fields: tuple[str, Any]
) -> None:
    with refused(SpecError, *fields):
        Sweep(space="mine", study=sweep.study, keys=keys).recipe_at(point)


SETTINGS: dict[str, Any] = {
    "name": "mine", "space": lambda radius: {"objective.epsilon": {"grid_search": [radius, 2 * radius]}},
    "cohort": None, "recipe": "pgd", "asked": ("accuracy",), "tested": "test", "samples": 3,
}  # fmt: skip


def test_a_space_is_drawn_at_the_radius_of_the_study_and_over_the_folds() -> None:
    ready = prepare_sweep(study(), **SETTINGS, folds=2)
    assert ready.sweep.keys == ("objective.epsilon",)
    assert (ready.radius, ready.samples, ready.dataset.name) == (0.2, 3, "wdbc")
    assert ready.space == {"objective.epsilon": {"grid_search": [0.2, 0.4]}, "fold": {"grid_search": [0, 1]}}


def test_folds_that_the_data_do_not_have_are_refused(tmp_path: Path) -> None:
    with refused(SpecError, "--folds", 3, 2):
        prepare_sweep(study(), **SETTINGS, folds=3)
    x, parts = np.random.default_rng(0).uniform(size=(40, 3)), np.repeat(["train", "test"], 20)
    np.savez(tmp_path / "parted.npz", x=x, y=np.arange(40) % 2, split=parts)
    arrays = {"name": "arrays", "path": str(tmp_path / "parted.npz"), "low": 0, "high": 1}
    cohorts = {"made": {"dataset": arrays, "recipes": {"pgd": PGD}}}
    official = build_study({"name": "two", "split": {"folds": 2}, "cohorts": cohorts}, "test")
    with refused(SpecError, "--folds", 2, 1):
        prepare_sweep(official, **SETTINGS, folds=2)
    assert prepare_sweep(official, **SETTINGS, folds=1).space["fold"] == {"grid_search": [0]}


def test_robustness_is_read_at_a_radius_that_is_measured(tmp_path: Path) -> None:
    own = {"name": "robustness", "epsilons": [0, 0.07, 0.11, 0.13]}
    raw = {"dataset": "wdbc", "recipes": {"pgd": PGD}, "evaluations": ["accuracy", own]}
    asked = build_study({"name": "own", "cohorts": {"wdbc": raw}}, "test")
    assert prepare_sweep(asked, **{**SETTINGS, "asked": ("accuracy", "robustness")}, folds=1).radius == 0.11


def test_only_what_is_asked_is_kept_and_the_tested_records_are_chosen() -> None:
    base = base_of(study(), cohort=None, recipe="pgd", asked=("accuracy",), tested="validation")
    (cohort,) = base.cohorts.values()
    assert list(cohort.recipes) == ["pgd"]
    assert [evaluation.name for evaluation in cohort.evaluations] == ["accuracy"]
    assert base.split.tested == "validation"
    assert cohort.radius_among(cohort.radii_of(cohort.dataset.load())) == 0.2
    with refused(SpecError, "recipe", "pgdd", ["standard", "pgd"]):
        base_of(study(), cohort=None, recipe="pgdd", asked=("accuracy",), tested="test")
