"""Every metric against scikit-learn; the operating point; what cannot be measured says so."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics
from torch import nn

from assay import intervals
from assay.evaluations.accuracy import Accuracy
from assay.evaluations.subject import Subject
from assay.results import Check, Measurement
from assay.tasks.class_scores import calibration_error
from assay.tasks.operating_point import operating_threshold

Make = Callable[..., Subject]
One = Callable[..., Measurement]


def logits_of(classes: int, *, tied: bool, n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of the labels; with ties, in steps of one half."""
    generator = np.random.default_rng(seed)
    y = generator.integers(classes, size=n)
    logits = generator.normal(size=(n, classes)) + np.eye(classes)[y]
    return (np.round(logits * 2) / 2 if tied else logits).astype(np.float32), y


def measure(make: Make, logits: np.ndarray, y: np.ndarray, **settings: object) -> list[Measurement]:
    """The model is given its own logits as records."""
    return Accuracy(draws=50).measure(make(nn.Identity(), logits, y, classes=logits.shape[1], **settings))


@pytest.mark.parametrize("tied", [False, True])
def test_two_classes_are_scored_as_scikit_learn_scores_them(make: Make, one: One, tied: bool) -> None:
    logits, y = logits_of(2, tied=tied)
    said, score = logits.argmax(1), softmax(logits.astype(float), axis=1)[:, 1]
    expected = {
        "accuracy": metrics.accuracy_score(y, said),
        "precision": metrics.precision_score(y, said),
        "recall": metrics.recall_score(y, said),
        "f1": metrics.f1_score(y, said),
        "auroc": metrics.roc_auc_score(y, score),
        "auprc": metrics.average_precision_score(y, score),
    }
    found = measure(make, logits, y)
    assert {name: one(found, name).value for name in expected} == pytest.approx(expected)
    assert all(one(found, name).low <= value <= one(found, name).high for name, value in expected.items())


@pytest.mark.parametrize("tied", [False, True])
def test_many_classes_are_scored_as_scikit_learn_scores_them(make: Make, one: One, tied: bool) -> None:
    logits, y = logits_of(4, tied=tied)
    said, score = logits.argmax(1), softmax(logits.astype(float), axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(y, said),
        "precision": metrics.precision_score(y, said, average="macro", zero_division=0),
        "recall": metrics.recall_score(y, said, average="macro"),
        "f1": metrics.f1_score(y, said, average="macro"),
        "auroc": metrics.roc_auc_score(y, score, multi_class="ovr", average="macro"),
        "auprc": metrics.average_precision_score(np.eye(4)[y], score, average="macro"),
    }
    found = measure(make, logits, y)
    assert {name: one(found, name).value for name in expected} == pytest.approx(expected)


def test_a_class_that_no_record_holds_is_left_out_of_the_mean(make: Make, one: One) -> None:
    logits, y = logits_of(4, tied=False)
    y[y == 3] = 0
    logits[:, 1] -= 100
    said, held = logits.argmax(1), [0, 1, 2]
    assert set(said) == {0, 2, 3}, "one class is predicted and not held, another held and never predicted"
    settings = {"labels": held, "average": "macro", "zero_division": 0}
    expected = {
        "precision": metrics.precision_score(y, said, **settings),
        "recall": metrics.recall_score(y, said, **settings),
        "f1": metrics.f1_score(y, said, **settings),
    }
    found = measure(make, logits, y)
    assert {name: one(found, name).value for name in expected} == pytest.approx(expected)


def test_calibration_error_gives_the_worked_example() -> None:
    # Bins of a fifth. In [0.6, 0.8): right 2 of 3 at a mean confidence of 0.7; in [0.8, 1]: 0 of 1 at 0.9, 1 of 1 at 1.
    sure = np.array([0.6, 0.7, 0.8 - 1e-9, 0.9, 1.0])
    right = np.array([1, 0, 1, 0, 1])
    probability = np.stack([1 - sure, sure], axis=1)
    expected = 3 / 5 * abs(2 / 3 - 0.7) + 2 / 5 * abs(1 / 2 - 0.95)
    assert calibration_error(right, probability, bins=5) == pytest.approx(expected)


def test_a_model_that_is_sure_and_right_is_calibrated() -> None:
    y = np.arange(10) % 2
    assert calibration_error(y, np.eye(2)[y], bins=10) == 0
    assert calibration_error(y, np.eye(2)[1 - y], bins=10) == 1


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 60))
    y = np.array([1, *draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))])
    return y, np.array(draw(st.lists(st.integers(0, 9), min_size=n + 1, max_size=n + 1))) / 10


def reached(y: np.ndarray, scores: np.ndarray, threshold: float) -> Fraction:
    return Fraction(int((scores[y == 1] >= threshold).sum()), int((y == 1).sum()))


@given(scored(), st.sampled_from(["0.5", "0.7", "0.9", "0.95", "0.99"]))
def test_the_operating_threshold_is_the_highest_that_reaches_the_sensitivity(
    case: tuple[np.ndarray, np.ndarray], sensitivity: str
) -> None:
    threshold = operating_threshold(*case, float(sensitivity))
    assert reached(*case, threshold) >= Fraction(sensitivity)
    higher = [score for score in case[1] if score > threshold]
    assert all(reached(*case, score) < Fraction(sensitivity) for score in higher)


def test_the_operating_threshold_is_not_lowered_by_rounding() -> None:
    # 0.55 · 100 is 55.00000000000001 in floating point.
    assert operating_threshold(np.ones(100), np.arange(100.0), 0.55) == 45


def test_the_operating_point_is_chosen_on_the_validation_split(make: Make, one: One) -> None:
    logits, y = logits_of(2, tied=False, n=300)
    held = np.arange(100)
    found = measure(make, logits, y, validation=held)
    score = softmax(logits.astype(float), axis=1)[:, 1]
    threshold = one(found, "sensitivity").conditions["threshold"]
    assert (score[:100][y[:100] == 1] >= threshold).mean() >= 0.95
    said, tested = score[100:] >= threshold, y[100:]
    assert one(found, "sensitivity").value == pytest.approx(metrics.recall_score(tested, said))
    assert one(found, "specificity").value == pytest.approx(metrics.recall_score(tested, said, pos_label=0))
    assert one(found, "sensitivity").conditions["chosen_on"] == "validation split"
    assert (one(found, "sensitivity").n, one(found, "specificity").n) == ((tested == 1).sum(), (tested == 0).sum())


def test_without_validation_records_the_threshold_is_one_half_and_says_so(make: Make, one: One) -> None:
    found = measure(make, *logits_of(2, tied=False))
    for name in ("sensitivity", "specificity"):
        assert one(found, name).conditions["threshold"] == 0.5
        assert "not an operating point" in one(found, name).warnings[0]


def test_more_classes_have_no_operating_point(make: Make, one: One) -> None:
    found = measure(make, *logits_of(3, tied=False))
    for name in ("sensitivity", "specificity"):
        assert one(found, name).status == "not_applicable"
        assert "there are 3" in one(found, name).warnings[0]


def test_a_class_without_test_records_leaves_nothing_to_rank(make: Make, one: One) -> None:
    logits, y = logits_of(2, tied=False)
    found = measure(make, logits, y, train=np.flatnonzero(y == 1))
    for name in ("auroc", "auprc", "sensitivity"):
        assert one(found, name).status == "not_applicable", name
        assert math.isnan(one(found, name).value)
    assert one(found, "specificity").status == one(found, "accuracy").status == "measured"


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_without_positives_nothing_is_measured_rather_than_zero(make: Make, one: One, name: str) -> None:
    logits, y = logits_of(2, tied=False)
    found = measure(make, logits, y, train=np.flatnonzero(y == 1))
    assert one(found, name).status == "not_applicable"


def test_each_group_has_its_own_accuracy(make: Make, one: One) -> None:
    logits, y = logits_of(2, tied=False)
    groups = np.array(["north", "south", "west"])[np.arange(90) % 3]
    found = measure(make, logits, y, groups=groups)
    for group in ("north", "south", "west"):
        row = one(found, "subgroup_accuracy", group=group)
        correct = (logits.argmax(1) == y)[groups == group]
        assert (row.value, row.n) == (correct.mean(), 30)
        alone = one(measure(make, logits[groups == group], y[groups == group]), "auroc")
        assert one(found, "subgroup_auroc", group=group).value == alone.value
    missing = one(measure(make, logits, y), "subgroup_accuracy")
    assert (missing.status, missing.warnings) == ("not_applicable", ("the data have no groups",))


@pytest.mark.parametrize("name", ["accuracy", "sensitivity", "specificity", "auroc"])
def test_repeated_records_of_a_patient_widen_the_interval(make: Make, one: One, name: str) -> None:
    logits, y = logits_of(2, tied=False, n=80)
    repeated, labels, patients = (np.repeat(column, 9, axis=0) for column in (logits, y, np.arange(80)))
    repeated = repeated + 1e-5 * np.arange(len(repeated))[:, None]  # alike, but no copies
    clustered = one(measure(make, repeated, labels, groups=patients), name)
    unaware = one(measure(make, repeated, labels), name)
    assert clustered.value == pytest.approx(unaware.value)
    assert clustered.high - clustered.low > 2 * (unaware.high - unaware.low)


def test_the_interval_of_accuracy_is_wilsons_where_records_are_independent(make: Make, one: One) -> None:
    logits, y = logits_of(2, tied=False)
    hits = int((logits.argmax(1) == y).sum())
    found, wilson = one(measure(make, logits, y), "accuracy"), intervals.proportion(hits, 90)
    assert (found.low, found.high) == (wilson.low, wilson.high)


def test_an_answer_that_is_no_number_is_a_wrong_answer(make: Make, one: One) -> None:
    class Broken(nn.Module):
        def forward(self, x: object) -> object:
            return x * math.nan  # type: ignore[operator]

    _, y = logits_of(2, tied=False)
    found = Accuracy(draws=50).measure(make(Broken(), np.zeros((90, 2)), y))
    assert one(found, "accuracy").value == 0
    absent = [one(found, name) for name in ("auroc", "auprc", "calibration_error")]
    assert {(m.status, m.reason) for m in absent} == {("not_applicable", "no_finite_answers")}
    assert [(c.rule, c.verdict, c.figure) for c in found if isinstance(c, Check)] == [
        ("answers_are_numbers", "fail", 1.0)
    ]


def test_huge_logits_are_no_overflow(make: Make, one: One) -> None:
    logits, y = logits_of(2, tied=False)
    found = measure(make, logits * 1e6, y)
    assert one(found, "accuracy").value == one(measure(make, logits, y), "accuracy").value
    assert one(found, "auroc").status == "measured"


def test_the_same_subject_is_measured_the_same_twice(make: Make) -> None:
    case = logits_of(2, tied=True)
    assert measure(make, *case) == measure(make, *case)
