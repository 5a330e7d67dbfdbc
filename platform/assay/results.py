"""What a measurement is: a value that cannot be separated from how, and how surely, it was measured."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Status = Literal["measured", "abstained", "not_applicable", "failed"]
Verdict = Literal["pass", "warn", "fail"]
NAN = float("nan")
CHECK = "check."
"""The name of a row that holds a check begins with it; the rule follows."""
TELLS_OF = "tells_of"
"""Condition of a figure that was read off training records, or off networks trained on them again: no ε covers it."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One answer to one question about one trained model.

    "Not measured" is a status with a reason in ``warnings``: never a 0, never a missing row.
    """

    name: str
    """What was measured, in the field's own words: ``robust_accuracy``."""
    value: float = NAN
    """The figure; NaN unless ``status`` is ``measured``."""
    unit: str = "fraction"
    """``fraction``, ``seconds``, ``epsilon``, …"""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the value depends on: attack, epsilon, steps, threshold."""
    n: int = 0
    """Number of records behind the value."""
    low: float = NAN
    """Lower end of the 95 % interval."""
    high: float = NAN
    """Upper end of the 95 % interval."""
    status: Status = "measured"
    warnings: tuple[str, ...] = ()
    """Why this value may be an illusion, or why there is none."""

    def __post_init__(self) -> None:
        if self.status == "measured" and math.isnan(self.value):
            raise ValueError(f"{self.name}: a measured value cannot be NaN; give it a status and a reason")
        if self.status != "measured" and not math.isnan(self.value):
            raise ValueError(f"{self.name} is {self.status}, so it has no value; it was given {self.value}")
        if self.status != "measured" and not self.warnings:
            raise ValueError(f"{self.name} is {self.status}: the reason must stand in its warnings")

    def warn(self, *warnings: str) -> "Measurement":
        """The same measurement with more warnings beside it."""
        return replace(self, warnings=(*self.warnings, *warnings))


ANY = (-math.inf, math.inf)
_LIMITS = {
    "fraction": (0.0, 1.0),
    "probability": (0.0, 1.0),
    "AUROC": (0.0, 1.0),
    "Spearman correlation": (-1.0, 1.0),
    "seconds": (0.0, math.inf),
    "classes": (0.0, math.inf),
    "epsilon": (0.0, math.inf),
}
_SIGNED = ("relative_corruption_error", "insertion_gain", "deletion_gain")
"""Differences of two shares or probabilities: from -1 to 1."""


def limits_of(name: str, unit: str) -> tuple[float, float]:
    """The least and the greatest value that a measurement can have: no interval reaches beyond."""
    return (-1.0, 1.0) if name.removeprefix("subgroup_") in _SIGNED else _LIMITS.get(unit, ANY)


def not_applicable(name: str, why: str, **conditions: Any) -> Measurement:
    """A question that cannot be asked of this model or these data."""
    return Measurement(name=name, status="not_applicable", conditions=conditions, warnings=(why,))


@dataclass(frozen=True, kw_only=True)
class Check:
    """The verdict of one rule of evidence, with the figure it rests on."""

    rule: str
    """Name of the rule: ``stronger_attack``."""
    concerns: str | tuple[str, ...]
    """Name of the measurement it judges, or names of several."""
    verdict: Verdict
    figure: float
    """What the rule looked at; its meaning and limit stand in ``message``."""
    message: str
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all measurements that it judges."""
        return (self.concerns,) if isinstance(self.concerns, str) else self.concerns

    def judges(self, measurement: Measurement) -> bool:
        """Whether this check looked at a measurement; one of an attack, method or corruption judges that one alone."""
        return measurement.name in self.names and all(
            self.conditions.get(key) in (None, measurement.conditions.get(key))
            for key in ("attack", "method", "corruption")
        )

    @classmethod
    def of(cls, row: Measurement) -> "Check":
        """The check that a row of the results holds; the inverse of ``measurement``."""
        conditions = dict(row.conditions)
        told, verdict = conditions.pop("concerns"), conditions.pop("verdict")
        return cls(
            rule=row.name.removeprefix(CHECK),
            concerns=told if isinstance(told, str) else tuple(told),
            verdict=verdict,
            figure=row.value,
            message=row.warnings[0],
            conditions=conditions,
        )

    def measurement(self) -> Measurement:
        """The check as a row of the results."""
        told = self.concerns if isinstance(self.concerns, str) else list(self.concerns)
        return Measurement(
            name=f"{CHECK}{self.rule}",
            value=self.figure,
            unit="",
            conditions={"concerns": told, "verdict": self.verdict, **self.conditions},
            warnings=(self.message,),
        )


Finding = Measurement | Check
"""What an evaluation gives back."""


def judged(findings: Sequence[Finding]) -> list[Measurement]:
    """All findings as measurements; what a check says stands beside whatever it concerns, whoever measured it."""
    return beside(
        [finding for finding in findings if isinstance(finding, Measurement)],
        [finding for finding in findings if isinstance(finding, Check)],
    )


def beside(measurements: list[Measurement], checks: list[Check]) -> list[Measurement]:
    """Put the warning of every check that did not pass on what it concerns, and add the checks themselves."""
    raised = [check for check in checks if check.verdict != "pass"]
    warned = [
        m.warn(*(f"{check.verdict}: {check.message}" for check in raised if check.judges(m)))
        if m.status == "measured"
        else m
        for m in measurements
    ]
    return warned + [check.measurement() for check in checks]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one evaluation found of one trained model; the unit that is measured once."""

    asked: Mapping[str, Any]
    """The evaluation with its settings, as plain values."""
    found: tuple[Finding, ...]
    """As the evaluation gave it back, before anything is set beside it."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a finding."""
        for one in self.found:
            yield row_of(one if isinstance(one, Measurement) else one.measurement())


def row_of(measurement: Measurement) -> dict[str, Any]:
    """The fields of a measurement by name."""
    return {key: getattr(measurement, key) for key in measurement.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """All that one trial found out; the unit that is stored, whole or not at all."""

    trial: str
    """Names what was asked, and under which cohort and recipe name."""
    dataset: str
    model: str
    recipe: str
    fold: int
    repeat: int
    training: str = ""
    """Names the trained model; empty where it has no name beside the trial's."""
    measurements: tuple[Measurement, ...] = ()
    error: str = ""
    """Why the trial failed; empty if it finished."""
    seconds: float = NAN
    """Wall time of the whole trial."""
    weights: bytes = b""
    """The trained model as safetensors, where this run trained it."""
    artefact: str = ""
    """Hash of the weights that were measured; empty where ``weights`` holds them, or where there are none."""
    answers: Mapping[str, "Answer"] = field(default_factory=dict)
    """What this run measured, by the names of the answers."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What was asked and where it ran: trial, versions, hardware, seeds."""

    @property
    def failed(self) -> bool:
        return bool(self.error)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a measurement; a failed trial is one row that says why."""
        measurements = self.measurements or (
            Measurement(name="trial", status="failed", warnings=(self.error or "no evaluation was asked for",)),
        )
        for measurement in measurements:
            yield {
                "trial": self.trial,
                "dataset": self.dataset,
                "model": self.model,
                "recipe": self.recipe,
                "fold": self.fold,
                "repeat": self.repeat,
                **row_of(measurement),
            }
