"""Clinical figures: calibration, net benefit, predictive values, and the worst subgroup."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import special
from scipy.special import expit

from assay import intervals, seeds
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated, share
from assay.evaluations.subgroups import SMALLEST, each_subgroup, subgroup_metrics
from assay.evaluations.subject import Subject
from assay.intervals import LEVEL, Interval
from assay.metrics import ANY, Chosen, Metric, ScorecardColumn, ShownAs, in_percent
from assay.registry import register
from assay.results import Finding, Measurement, ReasonCode, not_applicable
from assay.tasks.operating_point import OperatingPoint

Share = Annotated[float, Field(gt=0, lt=1)]
_CURVE = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Thresholds of the decision curve."""
_MOST_SLOPE = 1e3
"""A greater coefficient is not reported: the classes are nearly separated, or stated log-odds are far from any risk."""
_APART = "the classes are told apart without error: no finite coefficient fits"
_Z = float(special.ndtri((1 + LEVEL) / 2))
_OF_TWO = ("calibration_slope", "calibration_intercept", "net_benefit", "net_benefit_treat_all", "ppv", "npv")


def _column(key: str, place: int, *, shown: ShownAs = "percent") -> ScorecardColumn:
    return ScorecardColumn(key=key, group="clinical", place=place, shown=shown, optional=True)


@register("evaluation")
class Clinical(Evaluation):
    """Figures for clinical decisions between two classes: TRIPOD+AI (Collins et al. 2024) asks for all of them.

    *Calibration*: logistic recalibration of the stated log-odds (Cox 1958; Van Calster et al. 2019). A slope below 1
    means that stated risks are too extreme, an intercept below 0 that they are too high on average.

    *Net benefit* (Vickers & Elkin 2006): true positives less weighted false positives, as a share of all records. The
    weight follows from the threshold: a clinic that treats at a risk of 10 % or more accepts nine false alarms for one
    patient found. A model is useful where its net benefit is above that of treating all and that of treating none,
    which is 0.

    *Predictive values* at the operating point, at the prevalence of the clinic, which may differ from that of these
    records.

    *Subgroups*: accuracy and sensitivity of each subgroup that the data name, and of the worst of them.
    """

    name: Literal["clinical"] = "clinical"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="calibration_slope",
            title="Calibration slope",
            meaning="Slope of the true log-odds on the stated ones; 1 is best, below 1 stated risks are too extreme.",
            unit="slope",
            limits=ANY,
            columns=(
                ScorecardColumn(key="calibration_slope", group="clinical", place=81, shown="number", optional=True),
            ),
        ),
        Metric(
            name="calibration_intercept",
            title="Calibration intercept",
            meaning="Log-odds by which stated risks are too low on average; 0 is best, below 0 they are too high.",
            unit="log-odds",
            limits=ANY,
            columns=(
                ScorecardColumn(key="calibration_intercept", group="clinical", place=82, shown="number", optional=True),
            ),
        ),
        Metric(
            name="net_benefit",
            title="Net benefit",
            meaning="Share of patients treated correctly, minus the weighted share treated without need; the weight "
            "follows from the risk at which a clinic would treat; treating none has 0.",
            better="higher",
            unit="net benefit",
            limits=ANY,
            columns=(
                ScorecardColumn(
                    key="net_benefit",
                    group="clinical",
                    place=84,
                    title="Net benefit at {threshold}",
                    where={"stated": True, "threshold": Chosen(preferred=0.2)},
                    texts={"threshold": in_percent},
                    shown="number",
                    optional=True,
                ),
            ),
        ),
        Metric(
            name="net_benefit_treat_all",
            title="Net benefit of treating all",
            meaning="Net benefit of a clinic that treats all patients.",
            better="higher",
            unit="net benefit",
            limits=ANY,
        ),
        Metric(
            name="ppv",
            title="PPV",
            meaning="Share of the patients classified as ill who are ill, at the stated prevalence of the clinic, or "
            "at that of the test records.",
            better="higher",
            columns=(_column("ppv", 72),),
        ),
        Metric(
            name="npv",
            title="NPV",
            meaning="Share of the patients classified as well who are well, at the same prevalence.",
            better="higher",
            columns=(_column("npv", 73),),
        ),
        *subgroup_metrics(
            "accuracy",
            "Share of records classified correctly.",
            (_column("worst_subgroup", 75),),
        ),
        *subgroup_metrics(
            "sensitivity",
            "Share of the records of class 1 found, at the operating point.",
            (_column("worst_subgroup_sensitivity", 76),),
        ),
    )
    thresholds: tuple[Share, ...] = Field(default=(0.1, 0.2, 0.5), min_length=1)
    """Risks at or above which a clinic would treat: net benefit is given at each."""
    prevalence: Share | None = None
    """Share of patients with the finding where the model is to be used; by default that of the test records."""
    sensitivity: Share = 0.95
    """Sensitivity that the operating point must reach on the validation split, unless the task has chosen one."""
    smallest_group: int = Field(default=SMALLEST, ge=2)
    """Records of a subgroup (for sensitivity, of its class 1) below which it is no candidate for the worst."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap draws behind the intervals of net benefit and predictive values."""

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = subject.split.test
        y, logits = subject.dataset.y[rows], subject.logits(rows)
        right = ~subject.wrong(logits, y)
        found = each_subgroup(subject, rows, "accuracy", right, smallest=self.smallest_group, **subject.decided_at)
        if (why := _why_not(subject, y, logits)) is not None:
            names = (*_OF_TWO, "sensitivity_of_worst_subgroup")
            return [*(not_applicable(name, why[1], reason=why[0]) for name in names), *found]
        odds, ill = (logits[:, 1] - logits[:, 0]).astype(float), y == 1
        clusters = subject.clusters(rows)
        point = self._point(subject)
        called = subject.task.decide(point.shifted(logits)) == 1
        about = {"threshold": point.threshold, "chosen_on": point.chosen_on}
        return [
            *_calibration(y, odds, clusters),
            *self._net_benefit(subject, y, expit(odds), clusters),
            *(row.warn(*point.warnings) for row in self._predictive_values(subject, y, called, clusters, about)),
            *found,
            *each_subgroup(subject, rows[ill], "sensitivity", called[ill], smallest=self.smallest_group, **about),
        ]

    def _point(self, subject: Subject) -> OperatingPoint:
        held = subject.split.validation
        return subject.point or OperatingPoint.reaching(self.sensitivity, subject.logits(held), subject.dataset.y[held])

    def _net_benefit(
        self, subject: Subject, y: np.ndarray, risk: np.ndarray, clusters: np.ndarray | None
    ) -> list[Measurement]:
        """Measures the model, and treating all, at the stated thresholds and along the decision curve."""
        thresholds = sorted({*self.thresholds, *_CURVE})
        gains = {
            "net_benefit": [net_benefits(y, risk >= threshold, threshold) for threshold in thresholds],
            "net_benefit_treat_all": [net_benefits(y, risk >= 0, threshold) for threshold in thresholds],
        }
        found = []
        for name, each in gains.items():
            records = np.stack(each)
            estimates = self._intervals(subject, partial(_means, records), len(y), clusters)
            for threshold, interval in zip(thresholds, estimates, strict=True):
                about = {"threshold": threshold, "stated": threshold in self.thresholds}
                row = estimated(name, interval, n=len(y), unit="net benefit", conditions=about)
                none = name == "net_benefit" and not (risk >= threshold).any()
                found.append(row.warn("no test record reaches this risk: its interval says nothing") if none else row)
        return found

    def _predictive_values(
        self,
        subject: Subject,
        y: np.ndarray,
        called: np.ndarray,
        clusters: np.ndarray | None,
        conditions: Mapping[str, Any],
    ) -> list[Measurement]:
        """Measures both values at the operating point, by Bayes' rule from sensitivity and specificity."""
        prevalence = float(y.mean()) if self.prevalence is None else self.prevalence
        stated = "the test records" if self.prevalence is None else "the clinic, as stated"
        about = {"prevalence": prevalence, "prevalence_of": stated, **conditions}
        rows = []
        for name, taken, true in (("ppv", called, y == 1), ("npv", ~called, y == 0)):
            if not taken.any():
                rows.append(not_applicable(name, "no record is taken for that class", reason="no_records", **about))
            elif self.prevalence is None:
                # At the prevalence of these records it is a plain share of those that are taken for the class.
                rows.append(share(name, true[taken], None if clusters is None else clusters[taken], **about))
            else:
                odds = prevalence / (1 - prevalence) if name == "ppv" else (1 - prevalence) / prevalence
                ratio = likelihood_ratio(taken, true, clusters)
                ends = [ratio.value * odds, ratio.low * odds, ratio.high * odds]
                value, low, high = (1.0 if np.isinf(end) else end / (1 + end) for end in ends)
                rows.append(estimated(name, Interval(value=value, low=low, high=high), n=len(y), conditions=about))
        return rows

    def _intervals(
        self, subject: Subject, statistic: Callable[[np.ndarray], np.ndarray], n: int, clusters: np.ndarray | None
    ) -> list[Interval]:
        generator = seeds.stream(subject.seed, "bootstrap", "clinical")
        return intervals.bootstrap_curve(statistic, n, generator=generator, draws=self.draws, groups=clusters)


def _why_not(subject: Subject, y: np.ndarray, logits: np.ndarray) -> tuple[ReasonCode, str] | None:
    """Returns why the figures do not apply, as a code and in words; None where they do."""
    classes = subject.dataset.classes
    if classes != 2:
        return "other_number_of_classes", f"a finding that is there or not needs two classes, there are {classes}"
    if not subject.task.answered(logits).all():
        return "no_finite_answers", "the model answers NaN or infinity to some records"
    if not 0 < y.sum() < len(y):
        return "too_few_records", "the test records do not hold every class"
    return None


def _calibration(y: np.ndarray, odds: np.ndarray, clusters: np.ndarray | None) -> list[Measurement]:
    """Measures slope and intercept of logistic recalibration with 95 % intervals that respect clusters."""
    groups = np.arange(len(y)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if groups.max() < 1:
        why = "the test records belong to one cluster (such as one patient): an interval needs at least 2 clusters"
        names = ("calibration_slope", "calibration_intercept")
        return [not_applicable(name, why, reason="too_few_records") for name in names]
    found = []
    for name, unit, inputs, offset in (
        ("calibration_slope", "slope", np.column_stack([odds, np.ones(len(odds))]), np.zeros(len(odds))),
        ("calibration_intercept", "log-odds", np.ones((len(odds), 1)), odds),
    ):
        fit = _logistic(y, inputs, offset, groups)
        if isinstance(fit, str):
            found.append(not_applicable(name, fit, reason="inconclusive"))
        else:
            found.append(estimated(name, fit, n=len(y), unit=unit, conditions={}))
    return found


def _logistic(y: np.ndarray, inputs: np.ndarray, offset: np.ndarray, groups: np.ndarray) -> Interval | str:
    """Returns the first coefficient of a logistic regression; where there is none, the reason in words.

    Args:
        y: (n,) 0 or 1.
        inputs: (n, k).
        offset: (n,) log-odds that enter with the coefficient 1.
        groups: (n,) number of the cluster of each record, from 0; at least 2 clusters.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationError, PerfectSeparationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            fitted = GLM(y, inputs, family=Binomial(), offset=offset).fit()
        except (PerfectSeparationError, PerfectSeparationWarning):
            return _APART
        except (np.linalg.LinAlgError, ValueError):
            return "the logistic regression cannot be computed from these log-odds"
    value = float(fitted.params[0])
    if not fitted.converged or not np.isfinite(value):
        return "the logistic regression does not converge"
    if abs(value) > _MOST_SLOPE:
        return f"the coefficient that fits, {value:.3g}, is beyond ±{_MOST_SLOPE:g}, the greatest that is reported"
    error = _clustered_error(y, inputs, inputs @ fitted.params + offset, groups)
    if not np.isfinite(error):
        return "the interval cannot be computed: nearly all fitted risks are 0 or 1, or all stated risks are equal"
    return Interval(value=value, low=value - _Z * error, high=value + _Z * error)


def _clustered_error(y: np.ndarray, inputs: np.ndarray, odds: np.ndarray, groups: np.ndarray) -> float:
    """Returns the cluster-robust standard error of the first coefficient of a logistic regression.

    It is the square root of an entry of ``A⁻¹ B A⁻¹``, with the corrections of statsmodels for few clusters and
    records. The covariance of statsmodels itself is NaN as soon as one fitted risk rounds to 0 or 1.

    Args:
        y: (n,) 0 or 1.
        inputs: (n, k).
        odds: (n,) fitted log-odds.
        groups: (n,) number of the cluster of each record, from 0; at least 2 clusters.

    Returns:
        The error in the unit of the coefficient; NaN where it cannot be computed.
    """
    (n, k), count = inputs.shape, len(np.unique(groups))
    risk, other = special.expit(odds), special.expit(-odds)
    residuals = np.where(y == 1, other, -risk)
    scores = np.zeros((count, k))
    np.add.at(scores, groups, inputs * residuals[:, None])
    try:
        inverse = np.linalg.inv(inputs.T @ (inputs * (risk * other)[:, None]))
    except np.linalg.LinAlgError:
        return math.nan
    correction = count / (count - 1) * (n - 1) / (n - k) if n > k else math.nan
    return math.sqrt(correction * float(((scores @ inverse[:, 0]) ** 2).sum()))


def likelihood_ratio(taken: np.ndarray, true: np.ndarray, clusters: np.ndarray | None) -> Interval:
    """Returns how much likelier a record of a class is to be taken for it than another record, with a 95 % interval.

    The interval joins Wilson's intervals of both shares (MOVER-R, Donner & Zou 2012), so it is not empty at 0 and 1.

    Args:
        taken: (n,) bool, the records that are taken for the class.
        true: (n,) bool, those that are of it; there are some of both kinds.
        clusters: (n,) as ``Subject.clusters``.
    """
    shares = [share("share", taken[of], None if clusters is None else clusters[of]) for of in (true, ~true)]
    (hit, low_hit, high_hit), (alarm, low_alarm, high_alarm) = ((s.value, s.low, s.high) for s in shares)
    product = hit * alarm

    def end(one: float, other: float, sign: float) -> float:
        below = other * (2 * alarm - other)
        inside = max(product**2 - one * other * (2 * hit - one) * (2 * alarm - other), 0.0)
        return (product + sign * np.sqrt(inside)) / below if below else np.inf

    value = hit / alarm if alarm else np.inf
    return Interval(value=value, low=float(end(low_hit, high_alarm, -1.0)), high=float(end(high_hit, low_alarm, 1.0)))


def _means(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns (k,) means of (k, n) values over some of the n records."""
    return np.asarray(values[:, rows].mean(1))


def net_benefits(y: np.ndarray, treated: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the gain of each record from treatment; its mean is the net benefit.

    Args:
        y: (n,) 1 where the finding is present.
        treated: (n,) bool.
        threshold: risk at or above which a clinic would treat.

    Returns:
        (n,) gains.
    """
    return np.where(treated, np.where(y == 1, 1.0, -threshold / (1 - threshold)), 0.0)
