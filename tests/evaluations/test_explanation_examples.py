"""A few records are kept with their maps for readers, and only where everybody may publish records."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.evaluations.explanation_examples import kept, may_stand_in_a_report, restored
from assay.evaluations.explanations import Explanations
from assay.evaluations.inversion_pictures import decoded
from assay.evaluations.subject import Subject
from assay.registry import build
from assay.results import Measurement

Make = Callable[..., Subject]
OPEN: dict[str, Any] = {"licence": "CC BY 4.0"}


class Sign(nn.Module):
    """Two classes by the sum of the record's entries, each with its own weight."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = (x * self.weights).flatten(1).sum(1)
        return torch.stack([-answer, answer], 1) / 2


def asked(**settings: Any) -> Explanations:
    return Explanations(
        measured=6, control_draws=3, draws=50, steps=3, shap_background=3, retrained=False, points=3, **settings
    )


def examples(found: Any) -> dict[str, dict[str, Any]]:
    return {
        one.conditions["method"]: one.conditions["examples"]
        for one in found
        if isinstance(one, Measurement) and one.name == "explanation_examples"
    }


@pytest.fixture
def table(make: Make) -> Subject:
    """A linear model that answers a fifth of the records wrong."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype(np.float32)
    weights = torch.tensor([3.0, -2.0, 0.0])
    y = (x @ weights.numpy() > 0).astype(int)
    y[::5] = 1 - y[::5]
    return make(Sign(weights).eval(), x, y, train=np.arange(20), about=OPEN)


def test_half_of_the_examples_are_answered_wrong_and_maps_are_those_of_the_method(table: Subject) -> None:
    found = examples(asked().measure(table))
    assert set(found) == {"integrated_gradients", "deep_shap"}
    one = found["integrated_gradients"]
    assert one["right"] == [True, True, False, False]
    rows = np.array(one["rows"])
    assert set(rows) <= set(table.split.test)
    assert np.array_equal(table.right(rows), one["right"])
    assert one["true"] == [f"class {label}" for label in table.dataset.y[rows]]
    np.testing.assert_allclose(one["records"]["values"], table.dataset.x[rows])
    # Of a linear model, a value is the weight times the change from the mean, with the sign of the predicted class.
    mean = table.dataset.x[table.split.train].mean(0)
    sign = np.array([1 if predicted == "class 1" else -1 for predicted in one["predicted"]])[:, None]
    expected = sign * np.array([3.0, -2.0, 0.0]) * (table.dataset.x[rows] - mean)
    np.testing.assert_allclose(restored(one["maps"]), expected, atol=1e-3)
    assert one["unit"] == "log-odds"
    assert 0 < one["great"] <= 5


def test_all_methods_and_recipes_show_the_same_records_where_they_answer_alike(table: Subject) -> None:
    found = examples(asked(methods=("saliency",)).measure(table))
    assert len({tuple(one["rows"]) for one in found.values()}) == 1
    assert found["saliency"]["unit"] == "unit of the method"
    other = replace(table, model=Sign(torch.tensor([30.0, -20.0, 0.0])).eval())
    assert examples(asked().measure(other))["deep_shap"]["rows"] == found["deep_shap"]["rows"]


def test_a_model_without_errors_is_shown_by_records_that_it_answers_right(table: Subject) -> None:
    y = (table.dataset.x @ np.array([3.0, -2.0, 0.0]) > 0).astype(np.int64)
    perfect = replace(table, dataset=replace(table.dataset, y=y))
    assert examples(asked().measure(perfect))["integrated_gradients"]["right"] == [True] * 4
    assert examples(asked(examples=0).measure(perfect)) == {}


@pytest.mark.parametrize("licence", ["unknown", "research use", "CC BY-ND 4.0", "CC BY-NC 4.0"])
def test_nothing_is_kept_of_records_that_not_everybody_may_publish(table: Subject, licence: str) -> None:
    assert examples(asked().measure(replace(table, dataset=replace(table.dataset, licence=licence)))) == {}


@pytest.mark.parametrize(("size", "shown"), [(8, 8), (70, 35)])
def test_pictures_and_their_maps_are_thinned_alike(make: Make, size: int, shown: int) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (12, 1, size, size)).astype(np.float32)
    weights = torch.zeros(1, size, size)
    weights[0, 0, 0] = 4.0
    about = {**OPEN, "modality": "image", "low": np.zeros(1, np.float32), "high": np.ones(1, np.float32)}
    subject = make(Sign(weights).eval(), x, np.arange(12) % 2, train=np.arange(6), about=about)
    one = examples(asked(examples=2).measure(subject))["integrated_gradients"]
    assert decoded(one["records"]).shape == (2, 1, shown, shown)
    maps = restored(one["maps"])
    assert maps.shape == (2, shown, shown)
    assert np.abs(maps[:, 0, 0]).min() > 0
    assert np.abs(maps[:, 1:, 1:]).max() == 0


def test_signals_are_kept_with_all_their_samples(make: Make) -> None:
    x = np.random.default_rng(2).normal(size=(12, 2, 30)).astype(np.float32)
    subject = make(
        Sign(torch.ones(2, 30)).eval(), x, np.arange(12) % 2, train=np.arange(6), about={**OPEN, "modality": "signal"}
    )
    one = examples(asked(examples=2).measure(subject))["integrated_gradients"]
    np.testing.assert_allclose(restored(one["records"]), x[one["rows"]], atol=2e-4)
    assert restored(one["maps"]).shape == (2, 2, 30)


def test_numbers_come_back_as_they_were_to_a_thirty_thousandth_of_the_greatest() -> None:
    values = np.random.default_rng(3).normal(size=(3, 4, 5)) * 1e5
    assert np.abs(restored(kept(values)) - values).max() <= np.abs(values).max() / 32767
    assert np.array_equal(restored(kept(np.zeros((2, 2)))), np.zeros((2, 2)))


def test_what_may_stand_in_a_report_is_decided_by_the_licence_alone() -> None:
    sets: dict[str, Dataset] = {name: build("dataset", name).load() for name in ("wdbc", "digits")}  # type: ignore[attr-defined]
    for dataset in sets.values():
        assert may_stand_in_a_report(dataset)
        assert not may_stand_in_a_report(replace(dataset, licence="unknown"))
