"""The evaluation of smoothing: its figures are in order, its check can fail, and workers change nothing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.bounds.smoothing import ABSTAINED, lower_end
from assay.evaluations.smoothing import RandomisedSmoothing
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor, Outcome
from assay.results import Measurement, judged

Make = Callable[..., Subject]
One = Callable[..., Measurement]
ASKED = RandomisedSmoothing(sigma=0.5, judging_samples=300, epsilons=(0.25, 0.5, 5.0))


class Backwards(LocalExecutor):
    """Finishes the last piece first."""

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        return iter([*super().map(fn, items, shared)][::-1])


class Dying(LocalExecutor):
    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        return (Outcome(index=index, error="the worker died") for index, _ in enumerate(items))


@pytest.fixture
def subject(make: Make) -> Callable[..., Subject]:
    """A linear model on 80 records at known distances from its boundary, a tenth of them on the wrong side."""
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]))
    distance = np.linspace(0.05, 1.5, 80)
    y = np.arange(80) % 2
    side = np.where(np.arange(80) % 10 == 0, -1, 1) * (2 * y - 1)
    x = np.stack([side * distance, np.zeros(80)], 1)
    return lambda **settings: make(model, x, y, **settings)


def test_certified_stays_below_attacked_and_attacked_below_clean(subject: Callable[..., Subject], one: One) -> None:
    found = judged(ASKED.measure(subject()))
    clean = one(found, "smoothed_accuracy")
    abstained = one(found, "smoothed_abstention").value
    assert abstained > 0
    assert 0.9 - abstained <= clean.value <= 0.9
    curve = []
    for epsilon in (0.25, 0.5):
        certified = one(found, "certified_accuracy", epsilon=epsilon)
        attacked = one(found, "smoothed_robust_accuracy", epsilon=epsilon)
        # Of a linear model both are the share of records farther from the boundary than that.
        true = 0.9 * (1.5 - epsilon) / 1.45
        silent = one(found, "smoothed_abstention_under_attack", epsilon=epsilon)
        assert true - 0.15 <= certified.value <= true + 0.02
        assert true - 0.15 <= attacked.value <= min(true + 0.02, clean.value)
        # Told a wrong class: those on the wrong side, and those that the attack takes well across the boundary.
        assert 0.1 - abstained <= 1 - attacked.value - silent.value <= 1 - true + 0.02
        assert silent.value > abstained
        assert certified.value <= attacked.value + silent.value
        assert attacked.conditions["abstention"] == "not robust"
        curve.append(certified.value)
        assert certified.conditions["method"] == "randomised smoothing"
        assert certified.conditions["confidence"] == pytest.approx(0.999)
    assert curve[0] > curve[1]
    assert one(found, "check.certified_is_never_fooled").verdict == "pass"
    assert 0 < one(found, "certified_radius", quantile=0.5).value < 1.5


def test_an_attack_that_only_silences_is_an_attack(
    subject: Callable[..., Subject], one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "assay.evaluations.smoothing.predict", lambda model, x, *_, **__: np.full(len(x), ABSTAINED, np.int64)
    )
    found = judged(ASKED.measure(subject()))
    clean = one(found, "smoothed_accuracy").value
    wrong = 1 - clean - one(found, "smoothed_abstention").value
    for epsilon in ASKED.radii:
        assert one(found, "smoothed_robust_accuracy", epsilon=epsilon).value == 0
        assert one(found, "smoothed_abstention_under_attack", epsilon=epsilon).value == pytest.approx(1 - wrong)
    # Who is told nothing is told nothing wrong: no certificate is refuted by it.
    assert one(found, "check.certified_is_never_fooled").value == 0


def test_what_was_silenced_once_may_still_be_fooled_at_a_larger_radius(
    subject: Callable[..., Subject], one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RandomisedSmoothing(sigma=0.5, epsilons=(0.25, 0.5, 0.75))
    answers = iter([ABSTAINED, 7, 7])
    monkeypatch.setattr(
        "assay.evaluations.smoothing.predict", lambda model, x, *_, **__: np.full(len(x), next(answers), np.int64)
    )
    monkeypatch.setattr("assay.evaluations.smoothing.RECORDS_A_PIECE", 80)
    found = judged(asked.measure(subject()))
    clean = one(found, "smoothed_accuracy").value
    for epsilon, silent in ((0.25, clean), (0.5, 0.0), (0.75, 0.0)):
        assert one(found, "smoothed_robust_accuracy", epsilon=epsilon).value == 0
        row = one(found, "smoothed_abstention_under_attack", epsilon=epsilon)
        assert row.value == pytest.approx(one(found, "smoothed_abstention").value + silent)


def test_confidence_is_never_said_to_be_certainty(subject: Callable[..., Subject], one: One) -> None:
    asked = RandomisedSmoothing(sigma=0.5, alpha=1e-4, epsilons=(0.25,), attack_steps=1, judging_samples=10)
    row = one(judged(asked.measure(subject())), "smoothed_accuracy")
    assert row.conditions["holds_for"].endswith("with confidence 99.99%")


def test_of_texts_every_row_says_that_there_is_none(make: Make, one: One, subject: Callable[..., Subject]) -> None:
    about = {"modality": "text", "low": np.full(2, -9.0), "high": np.full(2, 9.0)}
    texts = make(nn.Linear(2, 2), np.ones((12, 4, 2)), np.arange(12) % 2, about=about)
    found = judged(RandomisedSmoothing().measure(texts))
    given = judged(ASKED.measure(subject()))
    assert {row.name for row in found} == {row.name for row in given if not row.name.startswith("check.")}
    assert all(row.status == "not_applicable" and "noise on words" in row.warnings[0] for row in found)


def test_a_radius_that_no_sample_can_prove_says_so(subject: Callable[..., Subject], one: One) -> None:
    far = one(judged(ASKED.measure(subject())), "certified_accuracy", epsilon=5.0)
    assert far.value == 0
    assert "1,000 samples prove no radius above 1.23" in far.warnings[0]


def test_a_broken_certificate_is_caught(
    subject: Callable[..., Subject], one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.bounds.smoothing.lower_end", lambda hits, n, a: max(lower_end(hits, n, a), 0.999999))
    found = judged(ASKED.measure(subject()))
    check = one(found, "check.certified_is_never_fooled")
    assert check.verdict == "fail"
    assert any("were fooled" in flag.message for flag in one(found, "certified_accuracy", epsilon=0.5).flags)


def test_who_does_the_work_and_in_which_order_changes_nothing(subject: Callable[..., Subject]) -> None:
    assert judged(ASKED.measure(subject())) == judged(ASKED.measure(subject(executor=Backwards())))
    with pytest.raises(RuntimeError, match="smoothing of records 0 to 31: the worker died"):
        ASKED.measure(subject(executor=Dying()))


def test_radii_follow_the_noise_unless_they_are_given() -> None:
    assert RandomisedSmoothing(sigma=0.2).radii == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert RandomisedSmoothing(epsilons=(0.3, 0.0, "2/255")).radii == pytest.approx((2 / 255, 0.3))


def test_a_forecast_counts_forward_passes() -> None:
    asked = RandomisedSmoothing(records=500, samples=100_000)
    assert asked.forecast(624).startswith("smoothing: 500 records × 100,100 passes = 50 million forward passes")
    assert asked.forecast(200).startswith("smoothing: 200 records")
