"""Metrics of evaluations: the meaning and the limits of each figure, and its columns on the scorecard.

An evaluation declares its metrics as a class variable::

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="brier_score",
            title="Brier score",
            meaning="Mean squared gap between the stated probabilities and what is true; 0 is best.",
            better="lower",
            limits=(0.0, 2.0),
            columns=(ScorecardColumn(key="brier", group="answers", place=85, shown="number"),),
        ),
    )
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal

from assay.registry import load_plugins, methods
from assay.results import Finding, Measurement
from assay.threats import radius_text

Better = Literal["higher", "lower", "neither"]
ShownAs = Literal["percent", "number", "seconds"]
Group = Literal["answers", "clinical", "attack", "privacy", "explanation", "cost"]
GROUPS: tuple[Group, ...] = ("answers", "clinical", "attack", "privacy", "explanation", "cost")
"""Headings of the scorecard, in their order."""

ANY = (-math.inf, math.inf)
SIGNED = (-1.0, 1.0)
"""Limits of a difference of two shares or probabilities."""
POSITIVE = (0.0, math.inf)
_LIMITS = {
    "fraction": (0.0, 1.0),
    "probability": (0.0, 1.0),
    "AUROC": (0.0, 1.0),
    "Spearman correlation": SIGNED,
    "seconds": POSITIVE,
    "classes": POSITIVE,
    "epsilon": POSITIVE,
}
"""The least and the greatest value of a unit."""


class OfStudy(Enum):
    """Conditions that a study fixes for the whole scorecard before anything is measured."""

    RADIUS = "epsilon"
    """The reference radius of robustness; NaN where none was measured."""
    NORM = "norm"
    """The norm of that radius."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A condition that may take several values: which of those that were measured the scorecard shows.

    Never one that is chosen by its result.
    """

    preferred: Any = math.nan
    """Shown where it was measured, or where nothing was."""
    otherwise: Literal["least", "middle"] = "least"
    """Which measured value is shown if the preferred one is missing; of an even number, the larger middle one."""

    def among(self, known: Iterable[Any]) -> Any:
        """Selects the value that the scorecard shows.

        Args:
            known: the measured values.

        Returns:
            The preferred value if it was measured or nothing was, otherwise the least or the middle one.
        """
        values = sorted(set(known))
        if self.preferred in values or not values:
            return self.preferred
        return values[len(values) // 2] if self.otherwise == "middle" else values[0]


def after_radius(epsilon: float) -> str:
    """Returns a radius as the end of a title; empty where none was measured.

    Args:
        epsilon: radius, in the units of the data, or NaN.

    Returns:
        Text such as ``, ε = 0.3``.
    """
    return "" if math.isnan(epsilon) else f", ε = {radius_text(epsilon)}"


def in_percent(share: float) -> str:
    """Formats a share as a percentage.

    Args:
        share: a fraction.

    Returns:
        Text such as ``5 %``.
    """
    return f"{100 * share:g} %"


AT_RADIUS: Mapping[str, Any] = {"epsilon": OfStudy.RADIUS, "norm": OfStudy.NORM}
"""Conditions of a figure under attack at the study's reference radius."""


@dataclass(frozen=True, kw_only=True)
class ScorecardColumn:
    """A metric on the scorecard, at one of its conditions.

    ``title`` and ``meaning`` may name conditions in braces, as in ``Worst case{epsilon}``; ``texts`` says how each is
    written. Both are the metric's own where they are empty.
    """

    key: str
    """Identifier of the column; must be unique."""
    group: Group
    place: int
    """Order within the group: columns with smaller numbers are further left."""
    title: str = ""
    meaning: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions that must hold: a value, ``Chosen`` among those measured where the earlier conditions hold, or one
    that the study fixes (``OfStudy``)."""
    texts: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    """How a condition is written in ``title`` and ``meaning``, by its name."""
    shown: ShownAs = "percent"
    estimated: bool = True
    """Whether the value is an estimate with an interval; false for spent ε, which is known exactly."""
    optional: bool = False
    """Whether the column is left out where no trial was asked for it, and where it applies to no recipe."""
    sampled: bool = False
    """Whether it may use a sample of the test records: then its size and the accuracy on it are shown."""
    from_zero: bool = False
    """Whether it is shown with its own value at ε = 0 on the same records and runs, instead of the accuracy."""
    beside: str = ""
    """Key of the column that is shown on the same runs, where this figure has fewer runs than that one."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure that an evaluation gives."""

    name: str
    """Name of its rows; a ``*`` matches a part that differs from row to row, such as the name of an attack."""
    title: str
    """A few words, used as the title of a column."""
    meaning: str
    """A sentence on how to read it."""
    unit: str = "fraction"
    """Unit of its rows; empty where it depends on the data."""
    better: Better = "neither"
    limits: tuple[float, float] | None = None
    """The least and the greatest possible value; None for those of the unit."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of all its rows, where another evaluation has a metric of the same name."""
    of_sample: bool = False
    """Whether it may use a sample of the test records."""
    against_accuracy: bool = False
    """Whether it is compared with the accuracy on the same records."""
    columns: tuple[ScorecardColumn, ...] = ()
    """Its columns on the scorecard."""

    def names(self, name: str) -> bool:
        """Returns whether rows with this name may belong to this metric.

        Args:
            name: of a measurement.

        Returns:
            True if the name matches.
        """
        return fnmatchcase(name, self.name)

    def holds(self, where: Mapping[str, Any]) -> bool:
        """Returns whether rows with these conditions may belong to this metric.

        Args:
            where: conditions of a measurement.

        Returns:
            True if no condition contradicts ``where`` of the metric.
        """
        return all(where.get(key, wanted) == wanted for key, wanted in self.where.items())

    @property
    def possible(self) -> tuple[float, float]:
        """Least and greatest possible value."""
        return _LIMITS.get(self.unit, ANY) if self.limits is None else self.limits


SAMPLE_ACCURACY = Metric(
    name="sample_accuracy",
    title="Accuracy on the sample",
    meaning="Accuracy, without an attack or a change, on the sample of the test records that an evaluation took.",
    better="higher",
)
"""Measured by every evaluation that uses a sample of the test records."""


def declared() -> tuple[tuple[str, Metric], ...]:
    """Returns the metrics of all registered evaluations.

    Returns:
        Pairs of the name of an evaluation and a metric.
    """
    load_plugins()
    return _declared(tuple(methods("evaluation").items()))


@lru_cache(maxsize=8)
def _declared(evaluations: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Metric], ...]:
    return tuple((name, metric) for name, evaluation in evaluations for metric in evaluation.metrics)


def metrics_named(name: str) -> Iterator[tuple[str, Metric]]:
    """Returns the declared metrics that may have rows with this name.

    Args:
        name: of a measurement.

    Returns:
        Iterator over pairs of the name of an evaluation and a metric.
    """
    return ((evaluation, metric) for evaluation, metric in declared() if metric.names(name))


def limits_of(name: str, unit: str) -> tuple[float, float]:
    """Returns the least and the greatest possible value of a measurement, which also limit its interval.

    Args:
        name: of the measurement.
        unit: of its row, which decides where no limits are declared.

    Returns:
        The two values.
    """
    stated = next((metric.limits for _, metric in metrics_named(name) if metric.limits is not None), None)
    return _LIMITS.get(unit, ANY) if stated is None else stated


def better_of(name: str) -> Better:
    """Returns in which direction a measurement is better, as its metric declares.

    Args:
        name: of the measurement.

    Returns:
        ``higher``, ``lower``, or ``neither``, also where no metric has this name.
    """
    return next((metric.better for _, metric in metrics_named(name)), "neither")


def meaning_of(name: str) -> str:
    """Returns a sentence on how to read a measurement.

    Args:
        name: of the measurement.

    Returns:
        The sentence; empty where no metric has this name.
    """
    return next((metric.meaning for _, metric in metrics_named(name)), "")


def rests_on_a_sample(name: str) -> bool:
    """Returns whether a measurement may use a sample of the test records; true for accuracy too, which it is compared
    with.

    Args:
        name: of the measurement.

    Returns:
        True if it may.
    """
    return name == "accuracy" or any(metric.of_sample for _, metric in metrics_named(name))


def undeclared(metrics: Iterable[Metric], found: Iterable[Finding]) -> list[str]:
    """Returns the names of measurements that an evaluation returns but does not declare, each once.

    Args:
        metrics: that it declares.
        found: its findings.

    Returns:
        The names.
    """
    known = tuple(metrics)
    rows = dict.fromkeys(one.name for one in found if isinstance(one, Measurement) and one.kind == "measurement")
    return [name for name in rows if not any(metric.names(name) for metric in known)]
