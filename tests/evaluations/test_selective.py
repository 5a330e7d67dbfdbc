"""Risk falls on what is left out, whatever the order of equals; a threshold keeps what it promises."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest
from torch import nn

from assay.evaluations.selective import (
    Selective,
    answered,
    guaranteed_threshold,
    risks,
    tried,
    upper_bound,
)
from assay.evaluations.subject import Subject
from assay.recipes import EarlyStopping, Recipe, Training
from assay.results import Check, Finding, Measurement
from assay.tasks.class_scores import certainty

Make = Callable[..., Subject]
One = Callable[..., Measurement]


GRID = Selective().coverages


def measured(subject: Subject, **settings: Any) -> list[Measurement]:
    return [f for f in Selective(draws=50, **settings).measure(subject) if isinstance(f, Measurement)]


def check(found: list[Finding]) -> Check:
    return next(f for f in found if isinstance(f, Check))


def records(n: int, *, seed: int, doubtful: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two classes whose confident answers are right and whose doubtful ones are a coin, and labels."""
    generator = np.random.default_rng(seed)
    doubt = generator.random(n) < doubtful
    y = generator.integers(2, size=n)
    margin = np.where(doubt, generator.normal(0, 0.3, n), (4 + generator.random(n)) * (2 * y - 1))
    return np.stack([np.zeros(n), margin], 1), y


@pytest.fixture
def subject(make: Make) -> Subject:
    """300 test records, 300 for validation, 300 for calibration; half of each are doubtful."""
    x, y = records(900, seed=0)
    made = make(nn.Identity(), x, y, validation=np.arange(300, 600), train=np.arange(600, 900))
    split = made.split
    return replace(made, split=replace(split, calibration=split.train, train=split.train[:0]))


def test_the_curve_gives_the_worked_example() -> None:
    sure, wrong = np.array([1.0, 4.0, 2.0, 3.0]), np.array([True, False, False, True])
    # The most confident first: right, wrong, right, wrong.
    found = risks(sure, wrong, np.array([1.0, 0.75, 0.5, 0.25]))
    assert found == pytest.approx([1 / 2, 1 / 3, 1 / 2, 0, (0 + 1 / 2 + 1 / 3 + 1 / 2) / 4])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_the_order_of_records_does_not_matter_even_among_equals(pairs: list, luck: Any) -> None:
    coverages = np.array([0.3, 0.7, 1.0])

    def curve() -> np.ndarray:
        sure, wrong = zip(*pairs, strict=True)
        return risks(np.array(sure, float), np.array(wrong), coverages)

    before = curve()
    luck.shuffle(pairs)
    assert curve() == pytest.approx(before)
    assert before[2] == pytest.approx(np.mean([wrong for _, wrong in pairs]))


def test_equal_confidence_tells_nothing_apart() -> None:
    found = risks(np.ones(10), np.arange(10) < 3, np.array([0.1, 0.5, 1.0]))
    assert found == pytest.approx([0.3] * 4)


def test_no_order_beats_errors_last_and_none_loses_to_errors_first() -> None:
    wrong = np.arange(100) < 20
    full = np.array([1.0])
    best, worst = risks(wrong * -1.0, wrong, full)[-1], risks(wrong * 1.0, wrong, full)[-1]
    generator = np.random.default_rng(0)
    some = [risks(generator.permutation(100.0 * np.arange(1, 101)), wrong, full)[-1] for _ in range(50)]
    assert best < min(some)
    assert max(some) < worst
    # Errors last: no risk up to 80 %, then k of 80 + k.
    assert best == pytest.approx(sum(k / (80 + k) for k in range(1, 21)) / 100)


@pytest.mark.parametrize(("coverage", "n", "kept"), [(1.0, 7, 7), (0.05, 20, 1), (0.55, 100, 55), (0.001, 10, 1)])
def test_a_coverage_is_a_number_of_records(coverage: float, n: int, kept: int) -> None:
    assert answered(coverage, n) == kept


def test_certainty_orders_as_the_greatest_probability_and_never_saturates() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (200, 4))
    assert certainty(logits) == pytest.approx(np.log(softmax(logits, 1).max(1) / (1 - softmax(logits, 1).max(1))))
    far = certainty(np.array([[100.0, 0.0], [200.0, 0.0]]))
    assert far[1] > far[0]


@pytest.mark.parametrize(("errors", "n"), [(0, 20), (3, 50), (49, 50)])
def test_the_bound_is_that_of_clopper_and_pearson(errors: int, n: int) -> None:
    exact = binomtest(errors, n).proportion_ci(0.9, method="exact").high
    assert upper_bound(errors, n, 0.05) == pytest.approx(exact)
    assert upper_bound(n, n, 0.05) == 1.0


def test_the_threshold_keeps_its_promise_as_often_as_it_says() -> None:
    # Answers at confidence c are wrong with probability 0.6 (1 − c)², so those at or above t with 0.2 (1 − t)².
    generator = np.random.default_rng(0)
    broken, found = 0, 0
    for _ in range(400):
        sure = generator.random(600)
        wrong = generator.random(600) < 0.6 * (1 - sure) ** 2
        threshold = guaranteed_threshold(sure, wrong, GRID, risk=0.1, confidence=0.95)
        if threshold is not None:
            found += 1
            broken += 0.2 * (1 - threshold) ** 2 > 0.1
    assert found > 380
    assert broken / 400 < 0.05


def test_only_what_could_pass_is_tried() -> None:
    # 59 records without an error bound the risk at 5 %, 72 at half the level, 117 at a twentieth of it.
    assert tried(GRID, 58, risk=0.05, confidence=0.95) == []
    assert tried(GRID, 59, risk=0.05, confidence=0.95) == [1.0]
    assert tried(GRID, 76, risk=0.05, confidence=0.95) == [1.0, 0.95]
    assert tried(GRID, 5000, risk=0.05, confidence=0.95) == list(GRID)
    nothing = np.zeros(59, bool)
    assert guaranteed_threshold(np.arange(59.0), nothing, GRID, risk=0.05, confidence=0.95) == 0.0
    assert guaranteed_threshold(np.arange(58.0), nothing[1:], GRID, risk=0.05, confidence=0.95) is None


def test_few_records_are_told_how_many_it_takes(make: Make, one: One) -> None:
    x, y = records(80, seed=0, doubtful=0)
    row = one(measured(make(nn.Identity(), x, y, validation=np.arange(40))), "abstention_rate")
    assert (row.value, "takes 59 records" in row.warnings[0]) == (1.0, True)


def test_a_lower_risk_answers_less() -> None:
    sure = np.linspace(0, 1, 2000)
    wrong = np.random.default_rng(0).random(2000) < 0.6 * (1 - sure) ** 2
    thresholds = [guaranteed_threshold(sure, wrong, GRID, risk=risk, confidence=0.95) for risk in (0.25, 0.1, 0.05)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == 0.0
    assert guaranteed_threshold(sure, np.ones(2000, bool), GRID, risk=0.05, confidence=0.95) is None


def test_a_model_that_knows_when_it_errs_is_left_its_sure_half(subject: Subject, one: One) -> None:
    found = Selective(draws=50).measure(subject)
    rows = [f for f in found if isinstance(f, Measurement)]
    rate, left = one(rows, "abstention_rate", risk=0.05), one(rows, "risk_after_abstention", risk=0.05)
    assert 0.45 < rate.value < 0.6
    assert left.value < 0.05
    assert left.low <= left.value <= left.high
    assert rate.conditions["chosen_on"] == "calibration split"
    assert left.n == round(300 * (1 - rate.value))
    assert check(found).verdict == "pass"
    assert [m.n for m in rows if m.name == "selective_risk"][:2] == [300, 285]
    curve = {m.conditions["coverage"]: m.value for m in rows if m.name == "selective_risk"}
    assert len(curve) == 20
    assert curve[0.3] == 0.0
    assert curve[1.0] == pytest.approx(0.25, abs=0.08)
    area = one(rows, "aurc")
    assert area.low < area.value < area.high


def test_without_calibration_the_validation_split_chooses(subject: Subject, one: One) -> None:
    split = replace(subject.split, calibration=subject.split.train)
    found = measured(replace(subject, split=split))
    assert one(found, "abstention_rate").conditions["chosen_on"] == "validation split"
    assert one(found, "abstention_rate").conditions["chosen_from"] == 300


def test_records_that_early_stopping_has_seen_choose_no_threshold(subject: Subject, one: One) -> None:
    stopped = replace(subject, recipe=Recipe(training=Training(early_stopping=EarlyStopping(epsilon=0.1))))
    assert one(measured(stopped), "abstention_rate").conditions["chosen_on"] == "calibration split"
    row = one(
        measured(replace(stopped, split=replace(stopped.split, calibration=stopped.split.train))), "abstention_rate"
    )
    assert row.status == "not_applicable"
    assert "early stopping chose the weights by the validation records" in row.warnings[0]
    assert "set split.calibration" in row.warnings[0]


def test_a_risk_that_nothing_reaches_is_no_number(make: Make, one: One) -> None:
    x, y = records(400, seed=1, doubtful=1.0)
    found = measured(make(nn.Identity(), x, y, validation=np.arange(200)))
    for name in ("abstention_rate", "risk_after_abstention"):
        assert "no threshold keeps the risk at or below 5.0%" in one(found, name).warnings[0]
    # All records are left to the clinician, so none has a risk.
    rate = one(found, "abstention_rate")
    assert (rate.value, rate.low, rate.high, rate.n) == (1.0, 1.0, 1.0, 200)
    assert one(found, "risk_after_abstention").status == "abstained"
    assert one(found, "aurc").status == "measured"


def test_harder_test_records_break_the_promise_and_a_check_says_so(make: Make) -> None:
    x, y = records(600, seed=2)
    broken = np.where(np.arange(600) < 300, y, 1 - y)
    found = Selective(draws=50).measure(make(nn.Identity(), x, broken, validation=np.arange(300)))
    assert check(found).verdict == "warn"
    assert check(found).concerns == "risk_after_abstention"


def test_a_test_set_of_doubt_gets_no_answer(make: Make, one: One) -> None:
    x, y = records(600, seed=3)
    x[300:] *= 1e-6
    found = measured(make(nn.Identity(), x, y, validation=np.arange(300)))
    assert one(found, "abstention_rate").value == 1.0
    assert one(found, "risk_after_abstention").status == "abstained"


def test_a_given_model_has_a_curve_and_no_threshold(make: Make, one: One) -> None:
    found = measured(make(nn.Identity(), *records(50, seed=0)))
    assert one(found, "aurc").status == "measured"
    assert one(found, "abstention_rate").status == "not_applicable"


def test_an_answer_of_nan_is_no_curve(make: Make) -> None:
    x, y = records(50, seed=0)

    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * math.nan

    found = measured(make(Broken(), x, y, validation=np.arange(10)))
    assert {m.status for m in found} == {"not_applicable"}
    assert "NaN or infinity to 40 of 40 records" in found[0].warnings[0]


def test_patients_are_drawn_whole_and_the_bound_is_doubted(make: Make, one: One) -> None:
    x, y = records(600, seed=0)
    groups = np.arange(600) // 30
    about = {"validation": np.arange(300)}
    grouped, single = (measured(make(nn.Identity(), x, y, groups=g, **about)) for g in (groups, None))
    assert one(grouped, "aurc").value == one(single, "aurc").value
    assert (one(grouped, "aurc").low, one(grouped, "aurc").high) != (one(single, "aurc").low, one(single, "aurc").high)
    assert "independent" in one(grouped, "abstention_rate").warnings[0]
    assert one(single, "abstention_rate").warnings == ()
