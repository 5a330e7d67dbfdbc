"""Requirements of a study: what a recipe must show to be chosen, stated before anything is measured.

Each has a metric and a limit. A study file writes it in words or as a mapping::

    requirements:
      - accuracy >= 0.90
      - worst case at epsilon 0.3 >= 70 %
      - membership TPR at 10 % FPR <= 12 %
      - loses at most 3 points against standard        # accuracy, where no other metric is named
      - worst case at epsilon 0.3 gains at least 10 points against standard
      - {metric: sensitivity, direction: at_least, limit: 0.9}
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

import assay.evaluations  # noqa: F401  (it registers their metrics)
from assay.errors import SpecError
from assay.metrics import Better, better_of
from assay.registry import Number, Settings, as_number, unknown
from assay.threats import radius_text

Comparator = Literal["at_least", "more_than", "at_most", "less_than"]
_SIGNS: dict[str, Comparator] = {">=": "at_least", ">": "more_than", "<=": "at_most", "<": "less_than"}
_SHOWN = {"at_least": "≥", "more_than": ">", "at_most": "≤", "less_than": "<"}


@dataclass(frozen=True, kw_only=True)
class RequiredMetric:
    """A metric that a requirement may be about."""

    title: str
    """Its name in a study file."""
    measurement: str
    """Name of its measurement."""
    evaluation: str
    """Name of the evaluation that measures it."""
    where: tuple[tuple[str, Any], ...] = ()
    """Conditions that always hold."""
    share: bool = True
    """Whether it is a share of records, which may be written in percent; its differences are points."""
    least: float = 0.0
    most: float = 1.0
    radius: bool = False
    """Whether it is measured at a radius, which the requirement must name."""
    rate: bool = False
    """Whether it is measured at a false positive rate, likewise."""

    @property
    def better(self) -> Better:
        """``higher`` or ``lower``, as the metric of the measurement declares."""
        return better_of(self.measurement)


METRICS: dict[str, RequiredMetric] = {
    "accuracy": RequiredMetric(title="accuracy", measurement="accuracy", evaluation="accuracy"),
    "balanced_accuracy": RequiredMetric(
        title="balanced accuracy", measurement="balanced_accuracy", evaluation="accuracy"
    ),
    "sensitivity": RequiredMetric(title="sensitivity", measurement="sensitivity", evaluation="accuracy"),
    "specificity": RequiredMetric(title="specificity", measurement="specificity", evaluation="accuracy"),
    "auroc": RequiredMetric(title="AUROC", measurement="auroc", evaluation="accuracy", share=False),
    "f1": RequiredMetric(title="F1", measurement="f1", evaluation="accuracy", share=False),
    "calibration_error": RequiredMetric(
        title="calibration error", measurement="calibration_error", evaluation="accuracy", share=False
    ),
    "worst_case": RequiredMetric(
        title="worst case", measurement="worst_case_accuracy", evaluation="robustness", radius=True
    ),
    "worst_case_balanced": RequiredMetric(
        title="worst case balanced", measurement="worst_case_balanced_accuracy", evaluation="robustness", radius=True
    ),
    "worst_case_sensitivity": RequiredMetric(
        title="worst case sensitivity", measurement="worst_case_sensitivity", evaluation="robustness", radius=True
    ),
    "worst_case_specificity": RequiredMetric(
        title="worst case specificity", measurement="worst_case_specificity", evaluation="robustness", radius=True
    ),
    "certified": RequiredMetric(
        title="certified",
        measurement="certified_accuracy",
        evaluation="certificates",
        where=(("method", "interval bounds"),),
        radius=True,
    ),
    "epsilon": RequiredMetric(
        title="epsilon", measurement="epsilon", evaluation="privacy", share=False, most=float("inf")
    ),
    "membership_tpr": RequiredMetric(
        title="membership TPR", measurement="membership_tpr", evaluation="membership", rate=True
    ),
    "lira_tpr": RequiredMetric(title="LiRA TPR", measurement="lira_tpr", evaluation="lira", rate=True),
    "faithfulness": RequiredMetric(
        title="faithfulness",
        measurement="faithfulness",
        evaluation="explanations",
        where=(("primary", True),),
        share=False,
        least=-1.0,
    ),
    # Of studies that were written before there was ``faithfulness``: a random order is an easy control.
    "fidelity_gain": RequiredMetric(
        title="fidelity gain",
        measurement="insertion_gain",
        evaluation="explanations",
        where=(("method", "integrated_gradients"), ("replacement", "panel"), ("against", "random order")),
        share=False,
        least=-1.0,
    ),
    "corruption_error": RequiredMetric(
        title="corruption error", measurement="mean_corruption_error", evaluation="shift"
    ),
}  # fmt: skip
"""By the name that a mapping uses."""

_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?(?:\s*%)?"
_LIMIT = re.compile(rf"^(?P<left>.*?)\s*(?P<sign>>=|<=|>|<)\s*(?P<limit>{_NUMBER})$")
_MARGIN = re.compile(
    rf"^(?P<left>.*?)\s*\b(?P<word>loses at most|gains at least)\s+(?P<limit>{_NUMBER})(?P<points>\s+points?)?"
    r"\s+against\s+(?P<against>\S+)$"
)
_EPSILON = re.compile(rf"\s+at\s+(?:epsilon|ε)\s*=?\s*(?P<value>{_NUMBER})")
_RATE = re.compile(rf"\s+at\s+(?P<value>{_NUMBER})\s+FPR\b", re.IGNORECASE)
_HOW = (
    "write METRIC >= LIMIT (or <=, >, <), as 'accuracy >= 0.90', or 'METRIC loses at most 3 points against RECIPE', or "
    "a mapping of metric, direction and limit; the metrics: "
)


class Requirement(Settings):
    """A metric with the limit that it must reach."""

    metric: str
    """One of ``METRICS``."""
    direction: Comparator
    """On which side of the limit the value must lie."""
    limit: Number
    """Shares as fractions of 1; for a difference, a loss is negative where higher is better."""
    epsilon: Annotated[Number, Field(ge=0)] | None = None
    """Radius at which the metric is measured."""
    fpr: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """False-positive rate of the attacker: the share of non-members that it calls members."""
    against: str | None = None
    """Recipe whose value is subtracted, fold by fold; None where the value itself is meant."""

    @model_validator(mode="before")
    @classmethod
    def _reads_words(cls, given: Any) -> Any:
        if isinstance(given, Requirement | Mapping):
            return given
        if not isinstance(given, str):
            raise _refused(given, "is no requirement")
        return _read(given)

    @model_validator(mode="after")
    def _is_possible(self) -> "Requirement":
        if self.metric not in METRICS:
            message = f"{unknown('metric', self.metric, list(METRICS))} In words: {_titles()}."
            raise SpecError(message, setting="metric", given=self.metric, allowed=list(METRICS))
        for why, setting, given, allowed in self._objections():
            raise SpecError(f"{self.text}: {why}", setting=setting, given=given, allowed=allowed)
        return self

    def _objections(self) -> list[tuple[str, str, Any, Any]]:
        """Returns the reasons why the requirement cannot be judged, each with the fields of its error."""
        about, objections = self.about, list[tuple[str, str, Any, Any]]()
        if about.radius and self.epsilon is None:
            how = f"name the radius, as '{about.title} at epsilon 0.3 {_SHOWN[self.direction]} …'"
            objections.append((f"{about.title} is measured at a radius; {how}", "epsilon", None, "a radius"))
        if about.rate and self.fpr is None:
            how = f"name the rate, as '{about.title} at 10 % FPR {_SHOWN[self.direction]} …'"
            objections.append((f"{about.title} is measured at a false positive rate; {how}", "fpr", None, "a rate"))
        for name, asked in (("epsilon", about.radius), ("fpr", about.rate)):
            if getattr(self, name) is not None and not asked:
                objections.append(
                    (f"{about.title} has no condition {name}; leave it out", name, getattr(self, name), None)
                )
        if self.metric == "epsilon" and self.against is not None:
            objections.append(("ε is compared with a limit, not with a recipe", "against", self.against, None))
        wanted = ("at_least", "more_than") if about.better == "higher" else ("at_most", "less_than")
        if self.direction not in wanted:
            how = f"{about.title} is better when it is {about.better}; write {_SHOWN[wanted[0]]}"
            objections.append((how, "direction", self.direction, list(wanted)))
        if not self.least <= self.limit <= self.most:
            percent = " A share may be written as 0.9 or as 90 %." if about.share else ""
            message = f"the limit {self.limit:g} is not possible; allowed: {self.least:g} to {self.most:g}.{percent}"
            objections.append((message, "limit", self.limit, {"ge": self.least, "le": self.most}))
        return objections

    @property
    def about(self) -> RequiredMetric:
        """The metric that it is about."""
        return METRICS[self.metric]

    @property
    def least(self) -> float:
        """Least possible value of the metric, or of the difference."""
        return self.about.least - self.about.most if self.against else self.about.least

    @property
    def most(self) -> float:
        """Greatest possible value of the metric, or of the difference."""
        return self.about.most - self.about.least if self.against else self.about.most

    @property
    def tested(self) -> bool:
        """Whether a test judges it; ε is known exactly, so it is only compared."""
        return self.metric != "epsilon"

    @property
    def upward(self) -> bool:
        """Whether the value must lie above the limit."""
        return self.direction in ("at_least", "more_than")

    @property
    def conditions(self) -> dict[str, Any]:
        """Conditions of the rows that it is judged by."""
        given = {"epsilon": self.epsilon, "false_positive_rate": self.fpr}
        return {**dict(self.about.where), **{key: value for key, value in given.items() if value is not None}}

    @property
    def measured(self) -> str:
        """The metric with its conditions, in words."""
        text = self.about.title if self.metric != "epsilon" else "ε claimed"
        text += f" at ε = {radius_text(self.epsilon)}" if self.epsilon is not None else ""
        return text + (f" at {100 * self.fpr:g} % FPR" if self.fpr is not None else "")

    @property
    def text(self) -> str:
        """The requirement in words, the same for all ways to write it."""
        if self.against is None:
            return f"{self.measured} {_SHOWN[self.direction]} {self.amount(self.limit)}"
        gains = (self.limit > 0) == self.upward and self.limit != 0
        word = "gains at least" if gains else "loses at most"
        strict = " (strictly)" if self.direction in ("more_than", "less_than") else ""
        return f"{self.measured} {word} {self.amount(abs(self.limit))} against {self.against}{strict}"

    def amount(self, value: float) -> str:
        """Formats a value, or a difference, of the metric.

        Args:
            value: shares as fractions of 1.

        Returns:
            Text such as ``90 %`` or ``3 points``.
        """
        if not self.about.share:
            return f"{value:.10g}"
        return f"{100 * value:.10g} points" if self.against else f"{100 * value:.10g} %"


def _read(text: str) -> dict[str, Any]:
    """Returns the fields of a requirement that is written in words.

    Raises:
        SpecError: it cannot be read; the message says how to write one.
    """
    plain = re.sub(r"\s+", " ", text.strip()).replace("≥", ">=").replace("≤", "<=")
    match = _LIMIT.match(plain) or _MARGIN.match(plain)
    if match is None:
        raise _refused(text, "cannot be read as a requirement")
    parts, left = match.groupdict(), f" {match['left']}".rstrip()
    conditions = {}
    for name, pattern in (("epsilon", _EPSILON), ("fpr", _RATE)):
        if condition := pattern.search(left):
            conditions[name] = _number(condition["value"])
            left = left.replace(condition[0], "", 1)
    against = parts.get("against")
    name = left.strip() or ("accuracy" if against else "")
    metric = _named(name, text)
    limit = _number(parts["limit"])
    if against is None:
        return {"metric": metric, "direction": _SIGNS[parts["sign"]], "limit": limit, **conditions}
    limit = limit / 100 if parts["points"] else limit
    higher = METRICS[metric].better == "higher"
    signed = limit if (parts["word"] == "gains at least") == higher else -limit
    direction = "at_least" if higher else "at_most"
    return {"metric": metric, "direction": direction, "limit": signed, "against": against, **conditions}


def _named(name: str, text: str) -> str:
    """Returns the key of the metric with this title or key."""
    plain = name.lower().replace("ε", "epsilon").replace("_", " ").replace("-", " ")
    for key, metric in METRICS.items():
        if plain in (metric.title.lower(), key.replace("_", " ")):
            return key
    message = f"{text!r}: {unknown('metric', name, [metric.title for metric in METRICS.values()])}"
    raise SpecError(message, setting="metric", given=name, allowed=[metric.title for metric in METRICS.values()])


def _number(text: str) -> float:
    plain = text.replace(" ", "")
    value = as_number(plain.removesuffix("%"))
    return float(value) / 100 if plain.endswith("%") else float(value)


def _titles() -> str:
    return ", ".join(metric.title for metric in METRICS.values())


def _refused(given: Any, why: str) -> SpecError:
    return SpecError(f"{given!r} {why}: {_HOW}{_titles()}", setting="", given=given, allowed=list(METRICS))


def digest(requirements: Sequence[Requirement], candidates: Sequence[str]) -> str:
    """Returns the hash of requirements and candidates, whatever their order and the way in which they were written.

    Args:
        requirements: of a cohort.
        candidates: recipes that must meet them.

    Returns:
        20 hexadecimal digits.
    """
    content = {"requirements": sorted(each.text for each in requirements), "candidates": sorted(candidates)}
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:20]
