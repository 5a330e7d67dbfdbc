"""What a recipe costs, as the training log tells it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from assay.evaluations.cost import Cost
from assay.evaluations.subject import Subject
from assay.recipes import EarlyStopping, Recipe, Training
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]
RECORDS = np.zeros((5, 4)), [0, 1, 0, 1, 0]


def test_times_come_from_the_log_and_parameters_from_the_model(make: Make, log: Callable[..., Any], one: One) -> None:
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, train=[0, 1, 2], log=log()))
    assert one(found, "parameters").value == 4 * 2 + 2
    seconds, summed = one(found, "training_seconds"), one(found, "training_worker_seconds")
    assert (seconds.value, summed.value, seconds.unit, summed.unit) == (2.0, 6.0, "seconds", "seconds")
    assert seconds.conditions == summed.conditions == {"workers": 3, "records": 3}


def test_speeds_stand_by_the_number_of_workers_and_are_compared_with_one(
    make: Make, log: Callable[..., Any], one: One
) -> None:
    speeds = {
        "2": {"steps": 30, "records": 3000, "seconds": 10.0},
        "1": {"steps": 10, "records": 1000, "seconds": 5.0},
    }
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, train=[0, 1, 2], log=log(speeds=speeds)))
    rates = {m.conditions["workers"]: m for m in found if m.name == "training_records_per_second"}
    assert {workers: (rate.value, rate.n, rate.unit) for workers, rate in rates.items()} == {
        1: (200.0, 1000, "records per second"),
        2: (300.0, 3000, "records per second"),
    }
    efficiency = one(found, "scaling_efficiency")
    assert (efficiency.value, efficiency.n) == (0.75, 3000)
    assert efficiency.conditions["records_per_second_of_one_worker"] == 200.0


def test_without_steps_of_one_worker_nobody_knows_what_several_gain(
    make: Make, log: Callable[..., Any], one: One
) -> None:
    speeds = {"4": {"steps": 30, "records": 3000, "seconds": 10.0}, "1": {"steps": 0, "records": 0, "seconds": 0.0}}
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, train=[0, 1, 2], log=log(speeds=speeds)))
    assert one(found, "training_records_per_second").conditions == {"workers": 4, "steps": 30}
    efficiency = one(found, "scaling_efficiency")
    assert (efficiency.status, efficiency.reason, efficiency.conditions["workers"]) == (
        "not_applicable",
        "not_asked",
        4,
    )


def test_a_model_trained_elsewhere_has_parameters_and_no_times(make: Make, one: One) -> None:
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS))
    assert one(found, "parameters").value == 10
    for name in ("training_seconds", "training_worker_seconds"):
        assert one(found, name).status == "not_applicable"
        assert one(found, name).warnings == ("Assay did not train this model",)


def test_early_stopping_says_which_epoch_it_kept_and_by_what(make: Make, log: Callable[..., Any], one: One) -> None:
    stopping = EarlyStopping(epsilon=0.1, every=3, patience=2)
    recipe = Recipe(training=Training(epochs=10, early_stopping=stopping))
    settings = {"train": [0, 1], "validation": [2, 3], "recipe": recipe}
    for looks, kept, ended in (([0.2, 0.6, 0.6, 0.5], 6, 10), ([0.2, 0.3, 0.4, 0.5], 10, 10), ([0.5, 0.2], 3, 6)):
        found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, log=log(validation=looks), **settings))
        epoch, accuracy = one(found, "stopped_epoch"), one(found, "robust_validation_accuracy")
        assert (epoch.value, epoch.unit) == (kept, "epochs")
        assert epoch.conditions == {"epochs_trained": ended, "epochs_planned": 10}
        assert (accuracy.value, accuracy.n) == (max(looks), 2)
        assert (accuracy.conditions["epsilon"], accuracy.conditions["steps"]) == (0.1, 10)
        assert f"best of {len(looks)} looks" in accuracy.warnings[0]


def test_a_recipe_that_trains_to_its_end_has_no_epoch_that_was_kept(make: Make, log: Callable[..., Any]) -> None:
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, train=[0, 1, 2], log=log(), recipe=Recipe()))
    assert {m.name for m in found} == {"parameters", "training_seconds", "training_worker_seconds"}
