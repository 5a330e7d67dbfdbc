"""Clinical figures are those of closed forms and of other libraries, and say what they do not know."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.clinical import Clinical, _calibration, likelihood_ratio, net_benefits
from assay.evaluations.subgroups import each_subgroup
from assay.evaluations.subject import Subject
from assay.intervals import Interval
from assay.results import Measurement

N = 400


class Stated(nn.Module):
    """Answers with the log-odds that stand in the first input, times ``slope`` and plus ``shift``."""

    def __init__(self, slope: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.slope, self.shift = slope, shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(x)), self.slope * x[:, 0] + self.shift], dim=1)


def subject_of(model: nn.Module, *, n: int = N, seed: int = 0, **changes: object) -> Subject:
    """Records whose first input is the true log-odds of class 1."""
    draw = np.random.default_rng(seed)
    odds = draw.normal(0, 1.5, 2 * n)
    y = (draw.random(2 * n) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    dataset = Dataset(
        name="made", x=np.column_stack([odds, np.arange(2 * n)]).astype(np.float32), y=y, class_names=("well", "ill"),
        feature_names=("odds", "number"), low=np.full(2, -1e6, np.float32), high=np.full(2, 1e6, np.float32),
        units="units", epsilons=(0.0,),
    )  # fmt: skip
    everyone = np.arange(2 * n)
    split = Split(train=everyone[:0], validation=everyone[n:], calibration=everyone[:0], test=everyone[:n])
    dataset = replace(dataset, **changes)  # type: ignore[arg-type]
    return Subject(model=model.eval(), dataset=dataset, split=split, recipe=None, log=None, seed=0)


def found(subject: Subject, **settings: object) -> list[Measurement]:
    return [one for one in Clinical(**settings).measure(subject) if isinstance(one, Measurement)]  # type: ignore[arg-type]


def row(rows: list[Measurement], name: str, **where: object) -> Measurement:
    (chosen,) = [r for r in rows if r.name == name and all(r.conditions.get(k) == v for k, v in where.items())]
    return chosen


def test_true_risks_are_calibrated() -> None:
    rows = found(subject_of(Stated(), n=4000))
    slope, intercept = row(rows, "calibration_slope"), row(rows, "calibration_intercept")
    assert slope.low < 1 < slope.high and intercept.low < 0 < intercept.high
    assert slope.high - slope.low < 0.25


@pytest.mark.parametrize(("stated", "shift", "slope"), [(2.0, 0.0, 0.5), (0.5, 0.0, 2.0), (1.0, 1.0, 1.0)])
def test_calibration_undoes_what_was_done_to_true_risks(stated: float, shift: float, slope: float) -> None:
    exact = row(found(subject_of(Stated(), n=4000)), "calibration_slope").value
    rows = found(subject_of(Stated(stated, shift), n=4000))
    assert row(rows, "calibration_slope").value == pytest.approx(exact * slope, rel=1e-4)
    if shift:
        assert row(rows, "calibration_intercept").value == pytest.approx(-shift, abs=0.1)


def test_the_slope_is_that_of_another_library() -> None:
    subject = subject_of(Stated())
    test = subject.split.test
    x, y = subject.dataset.x[test, :1], subject.dataset.y[test]
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y).coef_[0, 0]
    assert row(found(subject), "calibration_slope").value == pytest.approx(other, rel=1e-4)


def test_classes_that_are_told_apart_have_no_slope() -> None:
    subject = subject_of(Stated())
    odds = np.where(subject.dataset.y == 1, 3.0, -3.0)
    apart = replace(subject.dataset, x=np.column_stack([odds, odds]).astype(np.float32))
    slope = row(found(replace(subject, dataset=apart)), "calibration_slope")
    assert (slope.status, slope.reason) == ("not_applicable", "inconclusive")


def test_calibration_intervals_are_those_of_another_library() -> None:
    patients = np.arange(2 * N) // 3
    subject = subject_of(Stated(1.5, 0.3), groups=patients)
    test = subject.split.test
    y, odds = subject.dataset.y[test], subject.logits(test)[:, 1].astype(float)
    rows, ones = found(subject), np.ones((len(test), 1))
    for name, inputs, offset in (
        ("calibration_slope", np.column_stack([odds, ones]), None),
        ("calibration_intercept", ones, odds),
    ):
        model = sm.GLM(y, inputs, family=sm.families.Binomial(), offset=offset)
        other = model.fit(cov_type="cluster", cov_kwds={"groups": patients[test]})
        one = row(rows, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.params[0], *other.conf_int()[0]), abs=1e-6)


def test_records_of_one_patient_have_no_calibration() -> None:
    rows = found(subject_of(Stated(), groups=np.zeros(2 * N, int)))
    for name in ("calibration_slope", "calibration_intercept"):
        one = row(rows, name)
        assert (one.status, one.reason) == ("not_applicable", "too_few_records")
        assert "one cluster" in one.warnings[0]


@pytest.mark.parametrize("stated", [12.0, 25.0])
def test_risks_that_round_to_certainty_have_an_intercept_with_an_interval(stated: float) -> None:
    """Log-odds with a deviation of 18 and more, of a model that is wrong as often as others."""
    intercept = row(found(subject_of(Stated(stated))), "calibration_intercept")
    assert intercept.low < intercept.value < intercept.high
    assert intercept.high - intercept.low > 0.3


def test_only_classes_that_are_told_apart_are_said_to_be() -> None:
    """Stated log-odds of thousands, where classes overlap: the intercept is too large to be reported."""
    draw = np.random.default_rng(0)
    odds = draw.normal(0, 1.5, N)
    y = (draw.random(N) < 1 / (1 + np.exp(-odds))).astype(int)
    _, overlapping = _calibration(y, 1e4 * odds, None)
    assert (overlapping.status, overlapping.reason) == ("not_applicable", "inconclusive")
    assert "told apart" not in overlapping.warnings[0]
    for one in _calibration(y, np.where(y == 1, 30.0, -30.0), None):
        assert (one.status, one.reason) == ("not_applicable", "inconclusive")
        assert "told apart" in one.warnings[0]


def test_net_benefit_weighs_false_alarms_by_the_threshold() -> None:
    y, treated = np.array([1, 1, 0, 0, 0]), np.array([True, False, True, True, False])
    # One patient found less two false alarms at odds of 1 to 4, over five records.
    assert net_benefits(y, treated, 0.2).mean() == pytest.approx((1 - 2 * 0.25) / 5)
    assert net_benefits(y, np.zeros(5, bool), 0.2).mean() == 0


def test_net_benefit_of_treating_all_is_its_closed_form() -> None:
    subject = subject_of(Stated())
    prevalence = float(subject.dataset.y[subject.split.test].mean())
    rows = found(subject, thresholds=(0.1, 0.4))
    for threshold in (0.1, 0.4, 0.95):
        every = row(rows, "net_benefit_treat_all", threshold=threshold)
        assert every.value == pytest.approx(prevalence - (1 - prevalence) * threshold / (1 - threshold))
        assert every.low < every.value < every.high
    assert {r.conditions["threshold"] for r in rows if r.name == "net_benefit" and r.conditions["stated"]} == {0.1, 0.4}


def test_a_calibrated_model_is_of_use_at_every_threshold() -> None:
    rows = found(subject_of(Stated(), n=4000))
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        model, every = (row(rows, name, threshold=threshold).value for name in ("net_benefit", "net_benefit_treat_all"))
        assert model > max(every, 0.0) - 0.003


def predictive(ratio: Interval, odds: float) -> tuple[float, ...]:
    return tuple(
        1.0 if np.isinf(end) else end * odds / (1 + end * odds) for end in (ratio.low, ratio.value, ratio.high)
    )


def test_predictive_values_are_bayes_rule() -> None:
    true, taken = np.array([True] * 10 + [False] * 10), np.array([True] * 9 + [False] + [True] * 2 + [False] * 8)
    # Sensitivity 0.9, specificity 0.8, at 1 %: the textbook's surprise.
    low, value, high = predictive(likelihood_ratio(taken, true, None), 0.01 / 0.99)
    assert value == pytest.approx(0.9 * 0.01 / (0.9 * 0.01 + 0.2 * 0.99))
    assert low < value < high
    low, value, high = predictive(likelihood_ratio(~taken, ~true, None), 0.99 / 0.01)
    assert value == pytest.approx(0.8 * 0.99 / (0.8 * 0.99 + 0.1 * 0.01))
    assert low < value < high


def test_an_interval_of_a_predictive_value_is_never_empty() -> None:
    true = np.array([True] * 20 + [False] * 32)
    low, value, high = predictive(likelihood_ratio(true, true, None), 1.0)
    assert (value, high) == (1.0, 1.0) and 0.7 < low < 0.95, "no false alarm among 32 shows no more than that"
    low, value, high = predictive(likelihood_ratio(np.ones(52, bool), true, None), 1.0)
    assert value == 0.5 and low < 0.5 < high


def test_intervals_of_predictive_values_hold_the_truth() -> None:
    draw, held = np.random.default_rng(0), 0
    true = np.arange(120) < 60
    for _ in range(1000):
        taken = draw.random(120) < np.where(true, 0.85, 0.1)
        low, _, high = predictive(likelihood_ratio(taken, true, None), 0.05 / 0.95)
        held += low <= 0.85 * 0.05 / (0.85 * 0.05 + 0.1 * 0.95) <= high
    assert 0.93 < held / 1000 < 0.985


def test_at_the_prevalence_of_the_records_they_are_the_plain_shares() -> None:
    subject = subject_of(Stated())
    ppv = row(found(subject), "ppv")
    test = subject.split.test
    called = 1 / (1 + np.exp(-subject.dataset.x[test, 0].astype(float))) >= ppv.conditions["threshold"] - 1e-6
    assert ppv.value == pytest.approx(subject.dataset.y[test][called].mean())
    assert ppv.n == called.sum() and ppv.low < ppv.value < ppv.high


def test_the_prevalence_is_told() -> None:
    rows = found(subject_of(Stated()), prevalence=0.03)
    assert row(rows, "ppv").conditions["prevalence"] == 0.03
    assert row(rows, "ppv").value < row(found(subject_of(Stated())), "ppv").value
    assert row(found(subject_of(Stated())), "ppv").conditions["prevalence_of"] == "the test records"


@pytest.mark.parametrize(
    ("model", "change", "reason"),
    [
        (Stated(float("nan")), {}, "no_finite_answers"),
        (nn.Linear(2, 3), {"class_names": ("a", "b", "c")}, "other_number_of_classes"),
    ],
)
def test_what_cannot_be_asked_says_so(model: nn.Module, change: dict[str, object], reason: str) -> None:
    rows = found(subject_of(model, **change))
    for name in ("calibration_slope", "net_benefit", "ppv", "sensitivity_of_worst_subgroup"):
        assert row(rows, name).reason == reason


@pytest.fixture
def grouped() -> Callable[..., Subject]:
    """A model that is wrong of most men older than 65."""

    def make(**subgroups: np.ndarray) -> Subject:
        return subject_of(Stated(), subgroups=subgroups)

    return make


def test_the_worst_subgroup_is_named_with_its_records(grouped: Callable[..., Subject]) -> None:
    sex = np.array(["F", "M", "M", ""] * (N // 2))
    subject = grouped(sex=sex)
    rows, hits = subject.split.test, np.ones(N, bool)
    hits[(sex[:N] == "M") & (np.arange(N) < 100)] = False
    out = each_subgroup(subject, rows, "accuracy", hits, smallest=20)
    shares = {r.conditions["subgroup"]: (r.value, r.n) for r in out if r.name == "accuracy_of_subgroup"}
    assert shares == {"F": (1.0, 100), "M": (0.75, 200)}, "records of unknown sex are in neither"
    worst = row(out, "accuracy_of_worst_subgroup")
    assert (worst.value, worst.n, worst.conditions["attribute"]) == (0.75, 200, "sex")
    assert (worst.low, worst.high) == (out[1].low, out[1].high)
    assert "lowest of 2 subgroups" in worst.warnings[0]


def test_a_subgroup_of_a_few_records_is_no_candidate(grouped: Callable[..., Subject]) -> None:
    site = np.array(["large"] * (2 * N))
    site[:10] = "small"
    subject = grouped(site=site)
    hits = np.ones(N, bool)
    hits[:10] = False
    out = each_subgroup(subject, subject.split.test, "accuracy", hits, smallest=20)
    assert row(out, "accuracy_of_worst_subgroup").conditions["subgroup"] == "large"
    assert row(out, "accuracy_of_worst_subgroup").conditions["left_out"] == 1
    (few,) = each_subgroup(subject, subject.split.test[:10], "accuracy", hits[:10], smallest=20)[-1:]
    assert (few.status, few.reason) == ("not_applicable", "too_few_records")


def test_data_without_subgroups_say_so() -> None:
    assert row(found(subject_of(Stated())), "accuracy_of_worst_subgroup").reason == "no_groups"


def test_sensitivity_of_a_subgroup_is_at_the_operating_point(grouped: Callable[..., Subject]) -> None:
    subject = grouped(sex=np.array(["F", "M"] * N))
    rows = found(subject, sensitivity=0.99)
    test, y = subject.split.test, subject.dataset.y
    of = {r.conditions["subgroup"]: r for r in rows if r.name == "sensitivity_of_subgroup"}
    threshold = of["F"].conditions["threshold"]
    risk = 1 / (1 + np.exp(-subject.dataset.x[test, 0].astype(float)))
    for place, sex in enumerate("FM"):
        ill = (y[test] == 1) & (np.arange(N) % 2 == place)
        assert of[sex].n == ill.sum()
        assert of[sex].value == pytest.approx((risk[ill] >= threshold - 1e-6).mean())
