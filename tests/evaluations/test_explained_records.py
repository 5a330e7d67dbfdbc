"""Maps of recipes that are compared count from the same records, and never from those that must stay where they are."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.errors import SpecError
from assay.evaluations.explained_records import (
    GREY,
    OF_NO_RECORDS,
    compared,
    learnt_by,
    measured_records,
    reference_of,
    why_not_learnt,
)
from assay.evaluations.explanations import Explanations
from assay.evaluations.global_explanations import GlobalExplanations
from assay.evaluations.subject import Subject
from assay.recipes import Recipe

PLAIN = Recipe()
PRIVATE = Recipe.model_validate({"privacy": {"epsilon": 1.0}})
FEDERATED = Recipe.model_validate({"federation": {"clients": 3}})


@pytest.mark.parametrize(
    ("given", "recipes", "found"),
    [
        (None, [PLAIN, PLAIN], True),
        (None, [PLAIN, PRIVATE], False),
        (None, [PLAIN, FEDERATED], False),
        (None, [PRIVATE], False),
        (False, [PLAIN], False),
        (True, [PLAIN], True),
    ],
)
def test_recipes_that_are_compared_count_from_the_same_records(
    given: bool | None, recipes: Sequence[Recipe], found: bool
) -> None:
    assert compared(given, recipes) is found
    for evaluation in (Explanations(from_training=given), GlobalExplanations(from_training=given)):
        assert evaluation.among(recipes).from_training is found  # type: ignore[attr-defined]


@pytest.mark.parametrize("other", [PRIVATE, FEDERATED], ids=["private", "federated"])
def test_a_comparison_of_two_references_is_refused(other: Recipe) -> None:
    with pytest.raises(SpecError, match="cohort of their own"):
        compared(True, [PLAIN, other])


@pytest.fixture(scope="module")
def subject(make: Callable[..., Subject]) -> Subject:
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    torch.manual_seed(0)
    return make(nn.Linear(5, 2), x, x[:, 0] > 0, train=np.arange(100))


@pytest.mark.parametrize("recipe", [PRIVATE, FEDERATED], ids=["private", "federated"])
def test_records_that_stay_where_they_are_serve_no_map(subject: Subject, recipe: Recipe) -> None:
    about = replace(subject, recipe=recipe, network=lambda: nn.Linear(5, 2))
    held = reference_of(about)
    assert held.source == OF_NO_RECORDS and not held.background.any()
    pool = measured_records(about, subject.split.test, held).pool
    trained = subject.records(subject.split.train)[0]
    assert not (pool[:, None] == trained[None]).all(-1).any()
    assert learnt_by(about) is None
    assert why_not_learnt(about)[1] == ("unpaid" if recipe is PRIVATE else "not_in_one_place")


def test_where_none_may_all_have_the_same_reference_and_the_same_replacements(subject: Subject) -> None:
    found: list[Any] = []
    for recipe in (PLAIN, PRIVATE, FEDERATED):
        about = replace(subject, recipe=recipe)
        held = reference_of(about, from_training=bool(compared(None, [PLAIN, PRIVATE, FEDERATED])))
        found.append((held, measured_records(about, subject.split.test[:20], held)))
    assert len({held.source for held, _ in found}) == 1
    for held, records in found[1:]:
        assert torch.equal(held.background, found[0][0].background)
        assert torch.equal(held.spread, found[0][0].spread)
        assert torch.equal(records.pool, found[0][1].pool)


def test_a_reference_of_no_records_changes_with_none(subject: Subject) -> None:
    federated = replace(subject, recipe=FEDERATED)
    other = replace(federated, dataset=replace(subject.dataset, x=subject.dataset.x / 2))
    held, again = reference_of(federated), reference_of(other)
    bounds = subject.dataset.bounds
    assert torch.equal(held.spread, again.spread) and held.source == again.source == OF_NO_RECORDS
    assert torch.equal(held.spread, (bounds.high - bounds.low).expand(5)[None])


def test_ranges_without_finite_bounds_are_those_of_test_records_and_the_source_says_so(subject: Subject) -> None:
    high = np.array(subject.dataset.high)
    high[2] = np.inf
    open_end = replace(subject, recipe=FEDERATED, dataset=replace(subject.dataset, high=high))
    held, tested = reference_of(open_end), subject.records(subject.split.test)[0]
    assert held.source == f"{OF_NO_RECORDS}; ranges of {len(tested)} test records"
    assert float(held.spread[0, 2]) == float(tested[:, 2].max() - tested[:, 2].min())
    assert float(held.spread[0, 1]) == pytest.approx(float(high[1] - subject.dataset.low[1]))


def test_a_label_in_the_ledger_names_what_is_trained(subject: Subject, make: Callable[..., Subject]) -> None:
    roar = Explanations.model_validate({"measures": ["roar"]})
    waves, wide = (
        make(nn.Flatten(), np.zeros((4, 1, *sides)), np.arange(4) % 2, about={"modality": modality})
        for sides, modality in (((30,), "signal"), ((64, 64), "image"))
    )
    labels = [roar.own_training(PLAIN, data) for data in (None, subject.dataset, waves.dataset, wide.dataset)]
    assert [one.label.count("ROAR") if one else -1 for one in labels] == [1, 1, 0, 0]
    assert all(one and "another seed" in one.label for one in labels)
    assert roar.own_training(FEDERATED, subject.dataset) is None


@pytest.mark.parametrize(("modality", "value"), [("image", 0.5), ("signal", 0.0)])
def test_the_neutral_record_of_images_is_midway_between_the_bounds(
    make: Callable[..., Subject], modality: str, value: float
) -> None:
    shape = (40, 1, 5, 5) if modality == "image" else (40, 1, 25)
    x = np.random.default_rng(0).uniform(0.5, 1, shape).astype(np.float32)
    limits = {"low": np.zeros(shape[1:], np.float32), "high": np.ones(shape[1:], np.float32)}
    subject = make(nn.Flatten(), x, np.arange(40) % 2, about={"modality": modality, **limits})
    held = reference_of(subject, from_training=False)
    assert held.source == (GREY if modality == "image" else OF_NO_RECORDS)
    assert bool((held.background == value).all()) and held.background.shape == (1, *shape[1:])
