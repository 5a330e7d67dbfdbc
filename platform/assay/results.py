"""The result of an evaluation: measurements with their conditions and intervals, checks, and the record of a trial."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from assay.outcomes import Outcomes

Status = Literal["measured", "abstained", "not_applicable", "failed"]
Verdict = Literal["pass", "inconclusive", "warn", "fail"]
RAISED = frozenset({"warn", "fail"})
"""Verdicts that speak against the figures concerned. ``inconclusive`` says that the rule could decide neither way."""
RowKind = Literal["measurement", "check"]
ReasonCode = Literal[
    "not_private",
    "not_trained_here",
    "not_federated",
    "not_in_recipe",
    "not_asked",
    "no_groups",
    "no_records",
    "too_few_records",
    "too_many",
    "other_kind_of_records",
    "other_number_of_classes",
    "no_gradient",
    "no_finite_answers",
    "random_answers",
    "nothing_right",
    "no_method",
    "no_threshold",
    "inconclusive",
    "no_claim",
    "no_shared_model",
    "never_trained",
    "not_logged",
    "unpaid",
    "not_in_one_place",
    "not_public",
    "not_installed",
    "error",
    "unspecified",
]
"""Why there is no value, as a code; ``REASONS`` explains each code."""
REASONS: Mapping[str, str] = {
    "not_private": "the recipe trains without privacy, so ε is infinite",
    "not_trained_here": "Assay did not train this model, or cannot train it again",
    "not_federated": "the recipe is not federated",
    "not_in_recipe": "the recipe has no such part: no poison, no treatment of its records",
    "not_asked": "a setting leaves it out",
    "no_groups": "the data name no groups or patients",
    "no_records": "there are no records of the kind that it asks of",
    "too_few_records": "there are some, and too few for a figure that means anything",
    "too_many": "it is told of the first ones alone",
    "other_kind_of_records": "it makes no sense of records of this modality, shape or class",
    "other_number_of_classes": "it makes no sense of this number of classes",
    "no_gradient": "it needs a gradient, and the model has none",
    "no_finite_answers": "the model answers NaN or infinity",
    "random_answers": "the model answers at random",
    "nothing_right": "the model answers no record correctly to begin with",
    "no_method": "no method is known for this network or these data",
    "no_threshold": "no threshold keeps what was promised",
    "inconclusive": "what was tried was too weak to conclude anything",
    "no_claim": "the claim does not hold, so no figure may stand for it",
    "no_shared_model": "each client has layers of its own, and the shared network alone is no model",
    "never_trained": "the client took part in no round, so it has no model of its own",
    "not_logged": "the log of the training does not tell it, as logs of earlier versions",
    "unpaid": "the recipe is private, and no ε pays for it",
    "not_in_one_place": "the recipe is federated, so its training records lie with the clients and never in one place",
    "not_public": "it would show records, and the licence of the data set does not let everybody publish them",
    "not_installed": "a library that it needs is not installed",
    "error": "it was tried and an error ended it",
    "unspecified": "nobody has said, as in results of earlier versions",
}
NAN = float("nan")
TELLS_OF = "tells_of"
"""Condition of a figure that was computed from training records, or from networks trained on them again. The ε of the
recipe does not cover such a figure."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An objection of a rule of evidence to a value."""

    verdict: Verdict
    """``warn`` or ``fail``."""
    message: str
    rule: str = ""
    """Name of the rule; empty in results of earlier versions."""

    @property
    def text(self) -> str:
        """The flag as one line of text: verdict, then message."""
        return f"{self.verdict}: {self.message}"


NOT_RELEASABLE = "not_releasable"
"""Rule of the flag on an ε of seeded noise: whoever knows the seed can subtract the noise."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure about one trained model, or, of kind ``check``, a verdict on such figures.

    "Not measured" is a status with a ``reason`` and, in ``warnings``, its words: never a 0, never a missing row.
    """

    name: str
    """What was measured, by the field's term: ``robust_accuracy``."""
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
    reason: ReasonCode | None = None
    """Why there is no value, as a code; None where there is one."""
    warnings: tuple[str, ...] = ()
    """Reasons to distrust the value, or why there is none, as text."""
    flags: tuple[Flag, ...] = ()
    """Flags that checks, or the evaluation itself, raised against the value."""
    kind: RowKind = "measurement"
    rule: str = ""
    """Of a check: the name of its rule."""
    verdict: Verdict | None = None
    """Of a check: its verdict."""
    concerns: tuple[str, ...] = ()
    """Of a check: names of the measurements that it judges."""
    outcomes: Outcomes | None = None
    """Of a share of test records: what became of each, so that recipes are paired by record. It is never exported."""

    def __post_init__(self) -> None:
        if self.status != "measured" and self.reason is None:
            object.__setattr__(self, "reason", "unspecified")
        if self.reason is not None and (self.status == "measured" or self.reason not in REASONS):
            known = "none of a measured value" if self.status == "measured" else ", ".join(REASONS)
            raise ValueError(f"{self.name} is {self.status} and was given the reason {self.reason!r}; allowed: {known}")
        if self.status == "measured" and math.isnan(self.value):
            raise ValueError(f"{self.name}: a measured value cannot be NaN; give it a status and a reason")
        if self.status != "measured" and not math.isnan(self.value):
            raise ValueError(f"{self.name} is {self.status}, so it has no value; it was given {self.value}")
        if self.status != "measured" and not self.warnings:
            raise ValueError(f"{self.name} is {self.status}: the reason must stand in its warnings")

    def warn(self, *warnings: str) -> "Measurement":
        """Returns the same measurement with more warnings.

        Args:
            warnings: texts to append to ``warnings``.

        Returns:
            A copy; this measurement stays as it is.
        """
        return replace(self, warnings=(*self.warnings, *warnings))

    def flag(self, *flags: Flag) -> "Measurement":
        """Returns the same measurement with more flags.

        Args:
            flags: to append to ``flags``.

        Returns:
            A copy; this measurement stays as it is.
        """
        return replace(self, flags=(*self.flags, *flags))


def not_applicable(name: str, why: str, *, reason: ReasonCode = "unspecified", **conditions: Any) -> Measurement:
    """Returns the row for a question that does not apply to this model or these data.

    Args:
        name: of the measurement.
        why: the reason as text.
        reason: the reason as a code.
        conditions: of the question, such as ``attack=...``.

    Returns:
        A measurement without a value, with status ``not_applicable``.
    """
    return Measurement(name=name, status="not_applicable", reason=reason, conditions=conditions, warnings=(why,))


@dataclass(frozen=True, kw_only=True)
class Check:
    """The verdict of one rule of evidence, with the figure it rests on."""

    rule: str
    """Name of the rule: ``stronger_attack``."""
    concerns: str | tuple[str, ...]
    """Name of the measurement it judges, or names of several."""
    verdict: Verdict
    figure: float
    """The number that the rule judged; ``message`` gives its meaning and its limit."""
    message: str
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> Flag:
        """The flag that is attached to the figures this check concerns."""
        return Flag(verdict=self.verdict, message=self.message, rule=self.rule)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all measurements that the check concerns."""
        return (self.concerns,) if isinstance(self.concerns, str) else self.concerns

    def judges(self, measurement: Measurement) -> bool:
        """Returns whether this check concerns a measurement.

        A check whose conditions name an attack, a method or a corruption concerns only measurements with the same one.

        Args:
            measurement: the measurement in question.

        Returns:
            True if its name and these conditions match.
        """
        return measurement.name in self.names and all(
            self.conditions.get(key) in (None, measurement.conditions.get(key))
            for key in ("attack", "method", "corruption")
        )

    @classmethod
    def of(cls, row: Measurement) -> "Check":
        """Builds the check that a stored row holds; the inverse of ``measurement``.

        Args:
            row: a measurement of kind ``check``.

        Returns:
            The check.
        """
        assert row.kind == "check" and row.verdict is not None, f"{row.name} is no check"
        return cls(
            rule=row.rule,
            concerns=row.concerns[0] if len(row.concerns) == 1 else row.concerns,
            verdict=row.verdict,
            figure=row.value,
            message=row.warnings[0],
            conditions=row.conditions,
        )

    def measurement(self) -> Measurement:
        """Returns the check as a row of the results.

        Returns:
            A measurement named ``check.RULE``, a name that no other row has; its ``rule`` names the rule.
        """
        return Measurement(
            name=f"check.{self.rule}",
            value=self.figure,
            unit="",
            kind="check",
            rule=self.rule,
            verdict=self.verdict,
            concerns=self.names,
            conditions=self.conditions,
            warnings=(self.message,),
        )


Finding = Measurement | Check
"""One item that an evaluation returns."""


def judged(findings: Sequence[Finding]) -> list[Measurement]:
    """Returns all findings as measurements, with the flags of the checks attached.

    Args:
        findings: measurements and checks, of one or of several evaluations.

    Returns:
        The flagged measurements, then the checks as rows.
    """
    return beside(
        [finding for finding in findings if isinstance(finding, Measurement)],
        [finding for finding in findings if isinstance(finding, Check)],
    )


def beside(measurements: list[Measurement], checks: list[Check]) -> list[Measurement]:
    """Attaches a flag of every check that was raised to the measurements it concerns, and appends the checks.

    Args:
        measurements: the measurements; only those with status ``measured`` are flagged.
        checks: the checks, whichever evaluation made them.

    Returns:
        The measurements in their order, then the checks as rows.
    """
    raised = [check for check in checks if check.verdict in RAISED]
    flagged = [
        m.flag(*(check.flag for check in raised if check.judges(m))) if m.status == "measured" else m
        for m in measurements
    ]
    return flagged + [check.measurement() for check in checks]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All findings of one evaluation on one trained model; each evaluation is run and stored once per model."""

    asked: Mapping[str, Any]
    """The evaluation with its settings, as plain values."""
    found: tuple[Finding, ...]
    """The findings as the evaluation returned them, before flags are attached."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields one row for each finding.

        Returns:
            Iterator over dictionaries from field name to value.
        """
        for finding in self.found:
            yield row_of(finding if isinstance(finding, Measurement) else finding.measurement())


def row_of(measurement: Measurement) -> dict[str, Any]:
    """Returns the fields of a measurement by name.

    Args:
        measurement: the measurement.

    Returns:
        Dictionary from field name to value; nested flags and mappings are not copied.
    """
    return {key: getattr(measurement, key) for key in measurement.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """The results of one trial; stored whole or not at all."""

    trial: str
    """Identifier of the trial: its evaluations, cohort and recipe name."""
    dataset: str
    model: str
    recipe: str
    fold: int
    repeat: int
    training: str = ""
    """Identifier of the trained model; empty where it has none of its own."""
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
    """The answers that this run measured, by identifier."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The requested trial, and the versions, hardware and seeds it ran with."""

    @property
    def failed(self) -> bool:
        """Whether the trial ended with an error."""
        return bool(self.error)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields one row for each measurement; a failed trial is one row with the reason.

        Returns:
            Iterator over dictionaries from column name to value.
        """
        measurements = self.measurements or (
            Measurement(
                name="trial", status="failed", reason="error", warnings=(self.error or "no evaluation was asked for",)
            ),
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
