"""A conformal set holds the true class as often as it promises, and where it does not, a check says so."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import betabinom
from torch import nn

from assay.evaluations.conformal import Conformal, Promise, coverage_is_kept, quantile
from assay.evaluations.subject import Subject
from assay.recipes import EarlyStopping, Recipe, Training
from assay.results import Check, Measurement
from assay.tasks.class_scores import aps, lac

Make = Callable[..., Subject]
One = Callable[..., Measurement]


def records(n: int, *, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with exactly the probabilities that they state."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, classes))
    y = (softmax(logits, 1).cumsum(1) > generator.random((n, 1))).argmax(1)
    return logits, y


def measured(subject: Subject, **settings: Any) -> list[Measurement]:
    return [f for f in Conformal(draws=50, **settings).measure(subject) if isinstance(f, Measurement)]


def checks(subject: Subject) -> list[Check]:
    return [f for f in Conformal(draws=50).measure(subject) if isinstance(f, Check)]


@pytest.fixture
def subject(make: Make) -> Subject:
    """1,000 test records, 500 for calibration, 200 for validation."""
    x, y = records(1700)
    made = make(nn.Identity(), x, y, classes=4, train=np.arange(1000, 1500), validation=np.arange(1500, 1700))
    return replace(made, split=replace(made.split, calibration=made.split.train, train=made.split.train[:0]))


def test_the_quantile_is_that_of_one_record_more() -> None:
    scores = np.array([3.0, 1.0, 2.0, 9.0, 5.0, 4.0, 8.0, 7.0, 6.0])
    assert quantile(scores, 0.1) == 9.0  # ⌈10 · 0.9⌉ = 9
    assert quantile(scores, 0.5) == 5.0
    assert quantile(scores, 0.05) == math.inf


@pytest.mark.parametrize("score", ["LAC", "APS"])
def test_coverage_is_what_was_promised_and_hardly_more(score: str) -> None:
    n, alpha, generator = 39, 0.1, np.random.default_rng(0)
    covered = []
    for draw in range(600):
        logits, y = records(n + 20, seed=draw)
        scores = lac(logits) if score == "LAC" else aps(logits, generator)
        true = scores[np.arange(len(y)), y]
        covered.append((true[n:] <= quantile(true[:n], alpha)).mean())
    # Exactly ⌈40 · 0.9⌉ / 40 in the mean, where no scores are equal; 600 draws know it to about 0.003.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_lac_sets_are_those_of_one_minus_the_probability() -> None:
    logits, y = records(300)
    p = softmax(logits, 1)
    for alpha in (0.05, 0.3):
        threshold = quantile(lac(logits)[np.arange(300), y], alpha)
        plain = quantile(1 - p[np.arange(300), y], alpha)
        assert ((lac(logits) <= threshold) == (1 - p <= plain + 1e-12)).all()


def test_lac_tells_confident_answers_apart() -> None:
    assert lac(np.array([[0.0, 50.0], [0.0, 60.0]])) == pytest.approx(np.array([[50.0, -50.0], [60.0, -60.0]]))


def test_aps_counts_what_is_likelier_and_a_part_of_itself() -> None:
    p = np.array([[0.2, 0.5, 0.3]])

    class Half:
        def random(self, shape: tuple[int, int]) -> np.ndarray:
            return np.full(shape, 0.5)

    assert aps(np.log(p), Half()) == pytest.approx(np.array([[0.9, 0.25, 0.65]]))  # type: ignore[arg-type]


def test_every_kind_of_set_is_told(subject: Subject, one: One) -> None:
    found = measured(subject)
    assert len(found) == 2 * 2 * 3
    for method in ("LAC", "APS"):
        strict, loose = (one(found, "conformal_set_size", alpha=a, method=method) for a in (0.05, 0.1))
        assert 1 <= loose.value < strict.value <= 4
        assert strict.low < strict.value < strict.high
        for alpha in (0.05, 0.1):
            covered = one(found, "conformal_coverage", alpha=alpha, method=method)
            assert covered.value == pytest.approx(1 - alpha, abs=0.04)
            assert (covered.n, covered.conditions["nominal"]) == (1000, 1 - alpha)
            assert covered.conditions["calibrated_on"] == "calibration split"
            assert covered.warnings == ()
            worst = one(found, "conformal_worst_class_coverage", alpha=alpha, method=method)
            assert worst.value <= covered.value
    sizes = {s: one(found, "conformal_set_size", alpha=0.1, method=s).value for s in ("LAC", "APS")}
    assert sizes["LAC"] < sizes["APS"]
    assert [(check.conditions["method"], check.verdict) for check in checks(subject)] == [
        ("LAC", "pass"),
        ("APS", "pass"),
    ]


def test_classes_that_nothing_tells_apart_all_belong_to_the_set(make: Make, one: One) -> None:
    y = np.arange(200) % 4
    alike = np.tile(np.arange(200)[:, None], 4)  # different records, of which each says the same of all classes
    found = measured(make(nn.Identity(), alike, y, classes=4, validation=np.arange(100)))
    assert one(found, "conformal_coverage", alpha=0.1, method="LAC").value == 1.0
    assert one(found, "conformal_set_size", alpha=0.1, method="LAC").value == 4.0


def test_the_worst_class_is_named(make: Make, one: One) -> None:
    x, y = records(900, classes=3)
    y = np.where((y == 2) & (np.arange(900) < 450), 1, y)  # among the test records the third class is often the second
    made = make(nn.Identity(), x, y, classes=3, validation=np.arange(450, 900))
    worst = one(measured(made, methods=("LAC",), alphas=(0.1,)), "conformal_worst_class_coverage")
    assert worst.conditions["class"] == "class 1"
    assert worst.n == int((y[:450] == 1).sum())


def test_the_validation_split_stands_in_with_a_warning(subject: Subject, one: One) -> None:
    split = replace(subject.split, calibration=subject.split.train)
    row = one(measured(replace(subject, split=split)), "conformal_coverage", alpha=0.1, method="LAC")
    assert (row.conditions["calibrated_on"], row.conditions["calibrated_from"]) == ("validation split", 200)
    assert "operating points are chosen" in row.warnings[0]


def test_too_few_records_promise_nothing(subject: Subject, one: One) -> None:
    split = replace(subject.split, calibration=subject.split.calibration[:12])
    found = measured(replace(subject, split=split))
    assert one(found, "conformal_coverage", alpha=0.1, method="LAC").status == "measured"
    for name in ("conformal_coverage", "conformal_set_size", "conformal_worst_class_coverage"):
        row = one(found, name, alpha=0.05, method="LAC")
        assert row.status == "not_applicable"
        assert "needs at least 20 calibration records, not 12" in row.warnings[0]


def test_without_any_held_records_nothing_is_asked(make: Make) -> None:
    found = measured(make(nn.Identity(), *records(50), classes=4))
    assert {m.status for m in found} == {"not_applicable"}
    assert "set split.calibration" in found[0].warnings[0]


def test_an_answer_of_infinity_is_no_set(make: Make) -> None:
    x, y = records(60)

    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * math.inf

    found = measured(make(Broken(), x, y, classes=4, validation=np.arange(30)))
    assert {m.status for m in found} == {"not_applicable"}


def test_other_patients_than_those_of_the_calibration_break_the_promise(subject: Subject) -> None:
    y = subject.dataset.y.copy()
    rows = subject.split.test[:250]
    y[rows] = (y[rows] + 1) % 4
    found = checks(replace(subject, dataset=replace(subject.dataset, y=y)))
    assert [check.verdict for check in found] == ["warn", "warn"]
    assert min(check.figure for check in found) > 0.05
    assert found[0].message.startswith("LAC sets hold")
    assert "exchangeable" in found[0].message


def test_grouped_records_are_doubted(make: Make, one: One) -> None:
    x, y = records(400)
    found = measured(make(nn.Identity(), x, y, classes=4, groups=np.arange(400) // 4, validation=np.arange(200)))
    row = one(found, "conformal_coverage", alpha=0.1, method="LAC")
    assert "those of one group are not" in row.warnings[1]


def test_the_chance_of_a_miss_has_its_closed_form() -> None:
    # One test record falls above the 18th of 19 order statistics with probability 2 / 20.
    assert Promise(method="LAC", alpha=0.1, hits=0, n=1, calibrated=19).p == pytest.approx(2 / 20)


def verdicts(*promises: Promise) -> list[str]:
    return [check.verdict for check in coverage_is_kept(promises)]


def test_a_kept_promise_is_rarely_doubted() -> None:
    generator = np.random.default_rng(0)
    hits = betabinom.rvs(300, 181, 20, size=2000, random_state=generator)
    raised = [verdicts(Promise(method="LAC", alpha=0.1, hits=int(h), n=300, calibrated=200)) == ["warn"] for h in hits]
    assert 0.02 < np.mean(raised) <= 0.06


def test_several_promises_share_one_level() -> None:
    doubtful = Promise(method="LAC", alpha=0.1, hits=257, n=300, calibrated=2000)
    assert 0.05 / 4 < doubtful.p < 0.05
    kept = Promise(method="APS", alpha=0.1, hits=275, n=300, calibrated=2000)
    assert verdicts(doubtful) == ["warn"]
    assert verdicts(doubtful, kept, kept, kept) == ["pass", "pass"]


def test_a_broken_promise_of_one_method_is_held_against_that_one_alone() -> None:
    broken = Promise(method="LAC", alpha=0.1, hits=200, n=300, calibrated=2000)
    kept = Promise(method="APS", alpha=0.1, hits=275, n=300, calibrated=2000)
    assert verdicts(broken, kept) == ["warn", "pass"]
    first = coverage_is_kept([broken, kept])[0]
    rows = [Measurement(name="conformal_coverage", value=0.7, conditions={"method": m}) for m in ("LAC", "APS")]
    assert [first.judges(row) for row in rows] == [True, False]


def test_records_that_early_stopping_has_seen_calibrate_nothing(subject: Subject, one: One) -> None:
    stopped = replace(subject, recipe=Recipe(training=Training(early_stopping=EarlyStopping(epsilon=0.1))))
    assert measured(stopped) == measured(subject)
    found = measured(replace(stopped, split=replace(stopped.split, calibration=stopped.split.train)))
    assert {row.status for row in found} == {"not_applicable"}
    assert len(found) == 2 * 2 * 3
    assert "early stopping chose the weights by the validation records" in found[0].warnings[0]
