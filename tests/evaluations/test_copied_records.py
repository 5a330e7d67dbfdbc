"""Copies of records narrow no interval of any evaluation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.evaluations.accuracy import Accuracy
from assay.evaluations.base import Evaluation
from assay.evaluations.certificates import Certificates
from assay.evaluations.conformal import Conformal
from assay.evaluations.copies import RepeatedTestRecords
from assay.evaluations.robustness import Robustness
from assay.evaluations.selective import Selective
from assay.evaluations.shift import Shift
from assay.evaluations.subject import Subject
from assay.intervals import proportion, proportion_of_clusters
from assay.results import Check, Measurement

Make = Callable[..., Subject]

TIMES = 20
ASKED: list[Evaluation] = [
    Accuracy(draws=100),
    Robustness(steps=1, adaptive=False, carlini_wagner={"name": "carlini_wagner", "steps": 1, "search_steps": 1}),  # type: ignore[arg-type]
    Certificates(),
    Selective(draws=100),
    Conformal(draws=100),
    Shift(draws=100, severities=(1,)),
]


def records(n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(n, 3)), np.arange(n) % 2
    x[:, 0] += np.where(y == 1, 0.7, -0.7)
    return x.astype(np.float32), y


def linear() -> nn.Module:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, 0.1, 0.0], [1.0, 0.0, 0.1]]))
        model.bias.zero_()
    return model


def subject(make: Make, times: int) -> Subject:
    """40 test and 120 validation records, each so many times."""
    x, y = records(160)
    x, y = np.tile(x, (times, 1)), np.tile(y, times)
    return make(linear(), x, y, validation=np.flatnonzero(np.arange(160 * times) % 160 >= 40))


def intervals(evaluation: Evaluation, made: Subject) -> dict[tuple[str, str], Measurement]:
    found = [m for m in evaluation.measure(made) if isinstance(m, Measurement) and m.status == "measured"]
    keys = ("epsilon", "attack", "class", "coverage", "alpha", "method", "corruption")
    return {(m.name, str([m.conditions.get(key) for key in keys])): m for m in found if m.low < m.high}


@pytest.mark.parametrize("evaluation", ASKED, ids=lambda one: one.name)
def test_copies_narrow_no_interval(evaluation: Evaluation, make: Make) -> None:
    once, often = intervals(evaluation, subject(make, 1)), intervals(evaluation, subject(make, TIMES))
    both = set(once) & set(often)
    assert len(both) > 3
    widths = {key: (often[key].high - often[key].low) / (once[key].high - once[key].low) for key in both}
    # Bootstrap draws differ, and so do random starts: were copies counted, widths would fall to a quarter.
    assert {key: width for key, width in widths.items() if width < 0.6} == {}


def test_the_interval_of_copies_is_that_of_their_originals(make: Make) -> None:
    (row,) = [m for m in ASKED[0].measure(subject(make, TIMES)) if getattr(m, "name", "") == "accuracy"]
    assert isinstance(row, Measurement)
    (plain,) = [m for m in ASKED[0].measure(subject(make, 1)) if getattr(m, "name", "") == "accuracy"]
    assert isinstance(plain, Measurement)
    assert (row.value, row.low, row.high) == pytest.approx((plain.value, plain.low, plain.high))
    assert row.n == 40 * TIMES


def test_the_copies_are_counted_and_warned_of(make: Make) -> None:
    for times, verdict in ((1, "pass"), (TIMES, "warn")):
        (check,) = RepeatedTestRecords().measure(subject(make, times))
        assert isinstance(check, Check)
        assert (check.verdict, check.figure, check.concerns) == (verdict, 40 * (times - 1), "accuracy")


def test_a_threshold_rests_on_no_copy(make: Make) -> None:
    # 30 records cannot keep a risk of 5 % with 95 % confidence, however often they are written down.
    x = np.stack([np.linspace(-1, 1, 60), np.arange(60) / 60], 1)
    y = (x[:, 0] > 0).astype(int)
    x, y = np.tile(x, (TIMES, 1)), np.tile(y, TIMES)
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-9.0, 0.0], [9.0, 0.0]]))
    made = make(model, x, y, validation=np.flatnonzero(np.arange(60 * TIMES) % 2 == 0))
    found: dict[str, Any] = {m.name: m for m in Selective(draws=50).measure(made) if isinstance(m, Measurement)}
    assert found["abstention_rate"].value == 1.0
    assert found["abstention_rate"].conditions["chosen_from"] == 30


# Clusters that do not agree within themselves.


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_the_interval_of_clusters_holds_the_truth_as_often_as_it_says(alike: float) -> None:
    generator = np.random.default_rng(0)
    held = []
    for _ in range(400):
        own = np.where(generator.random(40) < alike, generator.random(40) < 0.75, 0.75)
        hits = generator.random((40, 6)) < own[:, None]
        found = proportion_of_clusters(hits.ravel(), np.repeat(np.arange(40), 6))
        held.append(found.low <= 0.75 <= found.high)
    assert 0.92 < np.mean(held) <= 0.99


def test_clusters_that_all_agree_do_not_make_a_share_certain() -> None:
    found = proportion_of_clusters(np.ones(600, bool), np.repeat(np.arange(30), 20))
    wilson = proportion(30, 30)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def test_one_cluster_tells_nothing_and_single_records_are_independent() -> None:
    hits = np.arange(20) < 12
    assert proportion_of_clusters(hits, np.zeros(20)).low == 0.0
    assert proportion_of_clusters(hits, np.arange(20)) == proportion(12, 20)
