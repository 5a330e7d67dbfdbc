"""The goals of a sweep: figures of a trial that are to rise or to fall."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from assay.errors import SpecError
from assay.metrics import Better, better_of
from assay.registry import unknown_name
from assay.results import TrialRecord
from assay.study.spec import Cohort


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that a sweep tries to increase or decrease."""

    key: str
    title: str
    measurement: str
    """Name of the measurement."""
    evaluation: str
    """Evaluation that measures it."""
    percent: bool = False
    """Whether it is a share of records, shown in per cent."""

    @property
    def better(self) -> Better:
        """``higher`` or ``lower``, as the metric of the measurement declares."""
        return better_of(self.measurement)

    @property
    def sign(self) -> int:
        """1 where more is better, −1 where less is."""
        return 1 if self.better == "higher" else -1


ACCURACY = Goal(key="accuracy", title="accuracy", measurement="accuracy", evaluation="accuracy", percent=True)
ROBUST = Goal(
    key="robust", title="worst case", measurement="worst_case_accuracy", evaluation="robustness", percent=True
)
EPSILON = Goal(key="epsilon", title="ε claimed", measurement="epsilon", evaluation="privacy")
COST = Goal(key="cost", title="training, s", measurement="training_seconds", evaluation="cost")
GOALS = {goal.key: goal for goal in (ACCURACY, ROBUST, EPSILON, COST)}


def goals_named(keys: Sequence[str], cohort: Cohort) -> tuple[Goal, ...]:
    """Returns the goals of some names.

    Args:
        keys: names, the most important first.
        cohort: whose evaluations must measure them.

    Returns:
        The goals.

    Raises:
        SpecError: there is no such goal, one is named twice, or no evaluation of the cohort measures it.
    """
    measured = [evaluation.name for evaluation in cohort.evaluations]
    for place, key in enumerate(keys):
        if key not in GOALS:
            raise unknown_name("goal", key, list(GOALS), setting="--goals")
        if key in keys[:place]:
            raise SpecError(f"--goals names {key} twice; name it once", setting="--goals", given=key)
        if (needed := GOALS[key].evaluation) not in measured:
            raise SpecError(
                f"--goals names {key}, which the evaluation {needed} measures, and nobody asks for "
                f"it: add {needed} to the evaluations of the study and to ASKED of the space, or leave {key} out",
                setting="--goals",
                given=key,
                allowed=[goal.key for goal in GOALS.values() if goal.evaluation in measured],
            )
    return tuple(GOALS[key] for key in keys)


def values_of_record(record: TrialRecord, goals: Sequence[Goal], radius: float) -> list[float]:
    """Returns the value of each goal in a record.

    Args:
        record: of a trial.
        goals: that are wanted.
        radius: at which the worst case is read.

    Returns:
        One value a goal; NaN where it was not measured.
    """
    found: dict[str, float] = {}
    for measurement in record.measurements:
        asked = measurement.conditions.get("epsilon")
        if measurement.status == "measured" and (measurement.name != ROBUST.measurement or asked == radius):
            found.setdefault(measurement.name, measurement.value)
    return [found.get(goal.measurement, math.nan) for goal in goals]


def values_stored(columns: pa.Table, goals: Sequence[Goal], radius: float) -> dict[str, list[float]]:
    """Returns the value of each goal in every stored trial that did not fail; see ``values_of_record``.

    Args:
        columns: of the store's index.
        goals: that are wanted.
        radius: at which the worst case is read.

    Returns:
        One value a goal, by the id of the trial.
    """
    names = [goal.measurement for goal in goals if goal is not ROBUST]
    table = columns.select(["trial", "error", "worst_case", *names])
    return {
        row["trial"]: [_worst(row, radius) if goal is ROBUST else row[goal.measurement] for goal in goals]
        for batch in table.to_batches()
        for row in batch.to_pylist()
        if not row["error"]
    }


def _worst(row: Mapping[str, Any], radius: float) -> float:
    return next((one["accuracy"] for one in row["worst_case"] if one["epsilon"] == radius), math.nan)
