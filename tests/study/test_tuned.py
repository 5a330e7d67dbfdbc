"""Every recipe of a tuned study tries the same number of points, and only validation records choose among them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import SpecError
from assay.executors import LocalExecutor
from assay.recipes import Recipe, Training
from assay.store.folder import Store
from assay.study.measure import run_trial, subject_of
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import run_study
from assay.study.spec import Study, with_one_recipe
from assay.study.training import Trained, network_of, prepare_records, train_alone
from assay.study.tuned import Tuned
from assay.training.checkpoints import networks_from_bytes
from tests.mistakes import refused
from tests.studies import Memory

TUNED = {"points": 3, "learning_rate": [0.1, 1, 10], "batch_size": [1], "epochs": [1, 2]}
Make = Callable[..., Study]


def test_every_recipe_tries_as_many_points_at_the_same_places_of_its_own_grid() -> None:
    tuned = Tuned(points=7)
    recipes = [Recipe(training=Training(learning_rate=rate, batch_size=64, epochs=40)) for rate in (0.001, 0.1)]
    first, second = (tuned.points_of(recipe, seed=1) for recipe in recipes)
    assert first[0] == recipes[0].training and len(first) == len(second) == 7
    for points in (first, second):
        assert len({point.model_dump_json() for point in points}) == 7
    factors = [
        [(p.learning_rate / points[0].learning_rate, p.batch_size, p.epochs) for p in points]
        for points in (first, second)
    ]
    assert np.allclose(factors[0], factors[1])
    assert tuned.points_of(recipes[0], seed=2) != first
    assert {point.batch_size for point in first} <= {32, 64, 128}


def test_a_grid_that_is_too_small_is_refused() -> None:
    # Half an epoch is one epoch, so of 2 × 2 points two differ from the recipe's own.
    tuned = Tuned(points=5, learning_rate=(1, 2), batch_size=(1,), epochs=(0.5, 1))
    with refused(SpecError, "tuned.points", 5, 2):
        tuned.points_of(Recipe(training=Training(epochs=1)), seed=0)


@pytest.mark.parametrize(
    ("recipe", "split", "fields"),
    [
        ({"privacy": {"epsilon": 1}}, {}, ("tuned", "odd", "tuned.without")),
        ({"federation": {"clients": 2}}, {}, ("tuned", "odd", "tuned.without")),
        ({}, {"tested": "validation"}, ("split.tested", "validation", "test")),
    ],
)
def test_what_cannot_be_tuned_within_a_trial_is_refused(
    raw: Callable[..., Any], recipe: Any, split: Any, fields: tuple[Any, ...]
) -> None:
    given = raw({"standard": {}, "odd": recipe}, split={"folds": 2, **split}, tuned=TUNED)
    with refused(SpecError, *fields):
        build_study(given, "tiny.yaml")


def test_what_is_left_out_is_trained_as_it_stands(tiny: Make) -> None:
    recipes = {"standard": {}, "private": {"privacy": {"epsilon": 8}}}
    study = tiny(recipes, tuned={**TUNED, "without": ["private"]})
    plain = tiny(recipes)
    datasets = load_datasets(study)
    ours, theirs = ({trial.recipe_name: trial for trial in plan(one, datasets)} for one in (study, plain))
    assert ours["private"].training == theirs["private"].training
    assert ours["standard"].training != theirs["standard"].training
    with refused(SpecError, "tuned.without", "privat", ["standard", "private"]):
        tiny(recipes, tuned={**TUNED, "without": ["privat"]})


def test_how_a_recipe_is_tuned_is_part_of_what_names_its_model(tiny: Make) -> None:
    keys = set()
    for change in ({}, {"points": 2}, {"epsilon": 0.1}, {"epochs": [1, 3]}):
        study = tiny(tuned={**TUNED, **change})
        keys.add(plan(study, load_datasets(study))[0].training)
    assert len(keys) == 4
    first, second = (tiny(tuned={**TUNED, "without": without}) for without in ([], ["slow"]))
    named = [plan(study, load_datasets(study))[0] for study in (first, second)]
    assert named[0].training == named[1].training, "which other recipes are tuned names no model"


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_the_best_point_on_the_validation_records_is_kept(tiny: Make, epsilon: float) -> None:
    study = tiny(tuned={**TUNED, "epsilon": epsilon})
    datasets = load_datasets(study)
    trial = plan(study, datasets)[0]
    dataset, parts = prepare_records(trial, datasets["made"])
    record = run_trial(trial, LocalExecutor(), datasets["made"])
    assert not record.failed, record.error
    found = {m.name: m for m in record.measurements}
    networks, about = networks_from_bytes(record.weights, "made")
    values = [point["value"] for point in about["tuned"]]
    best = about["tuned"][int(np.argmax(values))]
    assert found["tuned_points"].value == 3 and found["tuned_points"].n == len(parts.validation)
    assert found["tuned_validation_accuracy"].value == max(values)
    assert found["tuning_seconds"].value == pytest.approx(sum(point["seconds"] for point in about["tuned"]))
    # It is the model that this point alone trains.
    chosen = {key: best[key] for key in ("learning_rate", "batch_size", "epochs")}
    alone = replace(
        trial,
        tuned=None,
        recipe=trial.recipe.model_copy(update={"training": trial.recipe.training.model_copy(update=chosen)}),
    )
    model, _ = train_alone(alone, dataset, parts.train, held=parts.validation)
    assert all((networks[""][name] == tensor).all() for name, tensor in model.state_dict().items())
    if epsilon == 0:
        opened, _ = Trained(checkpoint=record.weights).open(network_of(trial, dataset))
        import torch

        answers = opened(torch.from_numpy(dataset.x[parts.validation])).argmax(1).numpy()
        assert (answers == dataset.y[parts.validation]).mean() == pytest.approx(max(values))


def test_what_trains_again_trains_with_the_chosen_settings(tiny: Make) -> None:
    study = tiny(tuned=TUNED)
    datasets = load_datasets(study)
    trial = plan(study, datasets)[0]
    record = run_trial(trial, LocalExecutor(), datasets["made"])
    _, about = networks_from_bytes(record.weights, "made")
    best = max(about["tuned"], key=lambda point: point["value"])
    subject = subject_of(trial, datasets["made"], Trained(checkpoint=record.weights), LocalExecutor())
    assert subject.recipe is not None
    assert subject.recipe.training.epochs == best["epochs"]
    again = subject.train(subject.split.train, "")
    assert all((again.state_dict()[name] == tensor).all() for name, tensor in subject.model.state_dict().items())


def test_test_records_take_no_part_in_the_choice(raw: Callable[..., Any], tmp_path: Path) -> None:
    study = build_study(raw(tuned=TUNED), "tiny.yaml")
    datasets = load_datasets(study)
    trial = plan(study, datasets)[0]
    _, parts = prepare_records(trial, datasets["made"])
    other = np.array(datasets["made"].x)
    other[parts.test] = -other[parts.test]
    changed = replace(datasets["made"], x=other)
    ours, theirs = (run_trial(trial, LocalExecutor(), data).weights for data in (datasets["made"], changed))
    first, second = (networks_from_bytes(content, "made") for content in (ours, theirs))
    assert [point["value"] for point in first[1]["tuned"]] == [point["value"] for point in second[1]["tuned"]]
    assert all((first[0][""][name] == second[0][""][name]).all() for name in first[0][""])


def test_the_scorecard_says_how_many_points_each_recipe_had(tiny: Make, tmp_path: Path) -> None:
    from assay.report.scorecard import scorecard

    study, store = tiny(tuned=TUNED), Store(str(tmp_path))
    run_study(study, store, LocalExecutor(), watcher=Memory(), publish=lambda datasets: None)
    card = scorecard(study, "made", store.frame())
    assert "tuned" in {column.key for column in card.evidence}
    rows = store.frame()[store.frame()["name"] == "tuned_points"]
    assert rows.groupby("recipe")["value"].agg(["min", "max", "size"]).to_numpy().tolist() == [[3, 3, 2], [3, 3, 2]]


def test_a_job_that_trains_one_recipe_as_it_stands_refuses_a_tuned_one(tiny: Make) -> None:
    study = tiny(tuned={**TUNED, "without": ["slow"]})
    with refused(SpecError, "tuned", "standard"):
        with_one_recipe(study, cohort=None, recipe="standard", fold=1)
    assert with_one_recipe(study, cohort=None, recipe="slow", fold=1).tuned is None
