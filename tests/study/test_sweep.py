"""A point of a sweep is the trial that a study of its recipe would run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ray import tune

from assay.errors import SpecError
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.spec import Study
from assay.study.sweep import Sweep, base_of, point_name
from assay.study.sweep_file import study_file
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.trial import Trial
from tests.mistakes import refused

PGD = {"objective": {"name": "pgd", "epsilon": 0.3, "steps": 7}}
KEYS = ("objective.epsilon", "objective.steps")
POINT = {"objective.epsilon": 0.1, "objective.steps": 3}


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
    planned = [trial.id for trial in plan(ordinary, datasets)]
    assert [trial.id for trial in sweep.trials(POINT, datasets["wdbc"], folds=2)] == planned
    assert [trial.id for trial in sweep.trials(POINT, datasets["wdbc"])] == planned[:1]
    stored = sweep.trials(POINT, datasets["wdbc"])[0].description()
    assert sweep.settings_in(stored) == POINT


def test_a_setting_of_the_model_names_another_artefact(sweep: Sweep) -> None:
    varied = replace(sweep, keys=("model.hidden", "training.learning_rate"))
    dataset = sweep.cohort.load()

    def trial(hidden: list[int]) -> Trial:
        return varied.trials({"model.hidden": hidden, "training.learning_rate": 0.01}, dataset)[0]

    small, large = trial([4]), trial([8, 4])
    assert (small.model.model_dump()["hidden"], large.model.model_dump()["hidden"]) == ((4,), (8, 4))
    assert small.training != large.training
    assert small.training == trial([4]).training
    assert large.recipe_name == "hidden-8x4_learning_rate-0.01"
    assert varied.settings_in(large.description())["model.hidden"] == [8, 4]


def test_the_study_file_of_a_sweep_is_the_study_of_its_points(sweep: Sweep) -> None:
    ready = prepare_sweep(study(), **{**SETTINGS, "asked": ("accuracy", "cost")}, folds=2)
    points = [{"objective.epsilon": 0.1}, {"objective.epsilon": 0.2}, {"objective.epsilon": 0.1}]
    about = {"started": "today", "environment": {"git_commit": "abc"}}
    content = yaml.safe_load(study_file(ready, points, about))
    assert content["started"] == "today" and content["sweep"]["keys"] == ["objective.epsilon"]
    kept = Study.model_validate(content["study"])
    names = {ready.sweep.point_name(point): ready.sweep.recipe_at(point) for point in points}
    assert kept.cohorts["wdbc"].recipes == names and len(names) == 2
    planned = [trial.id for trial in plan(kept, {"wdbc": ready.dataset}) if trial.fold == 0]
    assert planned == [ready.sweep.trials(point, ready.dataset)[0].id for point in points[:2]]
    nothing = Study.model_validate(yaml.safe_load(study_file(ready, [], about))["study"])
    assert list(nothing.cohorts["wdbc"].recipes.values()) == [ready.sweep.base]


def test_names_tell_points_apart_and_fit_a_path() -> None:
    assert point_name({"training.learning_rate": 0.000123456789, "training.batch_size": 64}) == (
        "learning_rate-0.000123457_batch_size-64"
    )
    both = {"objective.epsilon": 0.1, "privacy.epsilon": 2.0, "federation.strategy": "fedavg", "model.hidden": []}
    assert point_name(both) == "objective.epsilon-0.1_privacy.epsilon-2_strategy-fedavg_hidden-none"
    assert point_name({"a.b": {"name": "fedprox", "mu": 0.1}}) == "b--name-fedprox-mu-0.1-"


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
        (("model.depth",), {"model.depth": 3}, ("mine", "model.depth")),
        (("model.hidden",), {"model.hidden": [0]}, ("hidden.0", 0)),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    sweep: Sweep, keys: tuple[str, ...], point: dict[str, float], fields: tuple[str, Any]
) -> None:
    with refused(SpecError, *fields):
        Sweep(space="mine", study=sweep.study, keys=keys).at(point)


SETTINGS: dict[str, Any] = {
    "name": "mine", "space": lambda radius: {"objective.epsilon": {"grid_search": [radius, 2 * radius]}},
    "cohort": None, "recipe": "pgd", "asked": ("accuracy",), "tested": "test",
}  # fmt: skip


def proposed(ready: PreparedSweep) -> list[Any]:
    search = ready.points()
    return [search.propose() for _ in range(search.total)]


def test_a_space_is_drawn_at_the_radius_of_the_study() -> None:
    ready = prepare_sweep(study(), **SETTINGS, folds=2)
    assert ready.sweep.keys == ("objective.epsilon",)
    assert (ready.radius, ready.folds, ready.dataset.name, ready.search) == (0.2, 2, "wdbc", "grid")
    assert proposed(ready) == [{"objective.epsilon": 0.2}, {"objective.epsilon": 0.4}]


def test_a_space_is_told_the_model_where_it_asks() -> None:
    def space(radius: float, *, model: str) -> dict[str, Any]:
        return {"model.hidden": {"grid_search": [[len(model)]]}}

    assert proposed(prepare_sweep(study(), **{**SETTINGS, "space": space})) == [{"model.hidden": [3]}]


def drawn(radius: float) -> dict[str, Any]:
    return {"objective.epsilon": tune.uniform(0.1, 0.2)}


def unsupported(radius: float) -> dict[str, Any]:
    return {"objective.epsilon": tune.sample_from(lambda spec: 1)}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"folds": 3}, ("--folds", 3, 2)),
        ({"samples": 3}, ("--samples", 3)),
        ({"search": "optuna", "tested": "validation"}, ("--search", "optuna", ("grid", "random"))),
        ({"search": "grid", "space": drawn}, ("--search", "grid", ("random", "optuna"))),
        ({"search": "annealing"}, ("--search", "annealing", ["grid", "random", "optuna"])),
        ({"search": "optuna", "space": drawn}, ("TESTED", "test", "validation")),
        ({"goals": ("speed",)}, ("--goals", "speed", ["accuracy", "robust", "epsilon", "cost"])),
        ({"goals": ("accuracy", "robust")}, ("--goals", "robust", ["accuracy"])),
        ({"goals": ("accuracy", "accuracy")}, ("--goals", "accuracy")),
        ({"scheduler": "median"}, ("--scheduler", "median", ["none", "asha"])),
        ({"scheduler": "asha", "eta": 50}, ("training.epochs", 40, 50)),
        ({"space": lambda radius: {"objective.epsilon": 0.1}}, ("objective.epsilon", "0.1")),
        ({"space": lambda radius: {"objective.epsilon": {"grid_search": []}}}, ("objective.epsilon", [])),
        ({"space": unsupported}, ("objective.epsilon",)),
        ({"space": lambda radius: {"objective.epsilon": tune.randn()}}, ("objective.epsilon",)),
        ({"space": lambda radius: {"objective.epsilon": tune.uniform(1, 0)}}, ("objective.epsilon", (1, 0))),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_starts(
    change: dict[str, Any], fields: tuple[Any, ...]
) -> None:
    with refused(SpecError, *fields):
        prepare_sweep(study(), **{**SETTINGS, **change})


HALVED = {"scheduler": "asha", "eta": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "federated"},
        {"recipe": "distilled"},
        {"recipe": "stopping"},
        {"space": lambda radius: {"training.epochs": {"grid_search": [2, 4]}}},
        {"goals": ("cost",), "asked": ("cost",)},
    ],
)
def test_a_training_that_cannot_be_compared_between_epochs_is_not_halved(change: dict[str, Any]) -> None:
    more = {
        "federated": {"federation": {"clients": 3}},
        "distilled": {"objective": {"name": "distillation"}},
        "stopping": {"training": {"early_stopping": {"epsilon": 0.1}}},
    }
    settings = {**SETTINGS, "space": lambda radius: {"training.learning_rate": {"grid_search": [0.1]}}, **HALVED}
    prepare_sweep(study(**more), **settings)
    with refused(SpecError, "--scheduler", "asha", "none"):
        prepare_sweep(study(**more), **{**settings, **change})


def test_folds_that_the_data_do_not_have_are_refused(tmp_path: Path) -> None:
    x, parts = np.random.default_rng(0).uniform(size=(40, 3)), np.repeat(["train", "test"], 20)
    np.savez(tmp_path / "parted.npz", x=x, y=np.arange(40) % 2, split=parts)
    arrays = {"name": "arrays", "path": str(tmp_path / "parted.npz"), "low": 0, "high": 1}
    cohorts = {"made": {"dataset": arrays, "recipes": {"pgd": PGD}}}
    official = build_study({"name": "two", "split": {"folds": 2}, "cohorts": cohorts}, "test")
    with refused(SpecError, "--folds", 2, 1):
        prepare_sweep(official, **SETTINGS, folds=2)
    assert prepare_sweep(official, **SETTINGS, folds=1).folds == 1


def test_robustness_is_read_at_a_radius_that_is_measured(tmp_path: Path) -> None:
    own = {"name": "robustness", "epsilons": [0, 0.07, 0.11, 0.13]}
    raw = {"dataset": "wdbc", "recipes": {"pgd": PGD}, "evaluations": ["accuracy", own]}
    asked = build_study({"name": "own", "cohorts": {"wdbc": raw}}, "test")
    assert prepare_sweep(asked, **{**SETTINGS, "asked": ("accuracy", "robustness")}).radius == 0.11


def test_only_what_is_asked_is_kept_and_the_tested_records_are_chosen() -> None:
    base = base_of(study(), cohort=None, recipe="pgd", asked=("accuracy",), tested="validation")
    (cohort,) = base.cohorts.values()
    assert list(cohort.recipes) == ["pgd"]
    assert [evaluation.name for evaluation in cohort.evaluations] == ["accuracy"]
    assert base.split.tested == "validation"
    assert cohort.radius_among(cohort.radii_of(cohort.dataset.load())) == 0.2
    with refused(SpecError, "recipe", "pgdd", ["standard", "pgd"]):
        base_of(study(), cohort=None, recipe="pgdd", asked=("accuracy",), tested="test")
