"""What a worker does for a sweep: a trial to its end, or a training up to a rung."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from assay.data.base import Dataset
from assay.devices import on_cpu
from assay.results import TrialRecord
from assay.study.measure import failed
from assay.study.runner import RemainingWork, evaluate_work
from assay.study.sweep_goals import Goal
from assay.study.sweep_rungs import RungResult, train_from, train_to_rung
from assay.study.trial import Trial


@dataclass(frozen=True, kw_only=True)
class SweepItem:
    """What is to be done of a trial."""

    work: RemainingWork
    rung: int | None = None
    """Place of the rung up to which it is trained; None trains to the end and runs all evaluations."""
    epochs: int = 0
    """Epochs of the rung."""
    goal: Goal | None = None
    """What is measured at the rung."""
    radius: float = 0.0
    """At which the worst case is read."""
    state: bytes | None = None
    """Of the training at its last rung; None to begin."""

    @property
    def trial(self) -> Trial:
        """The trial."""
        return self.work.trial


@dataclass(frozen=True, kw_only=True)
class AtRung:
    """A training that was taken to a rung."""

    result: RungResult
    state: bytes
    """From which it goes on."""


def run_item(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord | AtRung:
    """Runs a trial to its end, or trains it up to a rung, in this process.

    Args:
        item: what to do.
        datasets: by cohort.

    Returns:
        The record of the trial, or what was measured at the rung; a failure at a rung is a record with the error.
    """
    if item.rung is None and item.state is None:
        return evaluate_work(item.work, datasets)
    started = time.perf_counter()
    try:
        with on_cpu(item.trial.device == "cpu"):
            return _at_rung(item, datasets) if item.rung is not None else _to_the_end(item, datasets)
    except Exception as error:  # whatever a training raises, the sweep goes on
        return failed(item.trial, error, time.perf_counter() - started)


def _at_rung(item: SweepItem, datasets: Mapping[str, Dataset]) -> AtRung:
    assert item.rung is not None and item.goal is not None
    result, state = train_to_rung(
        item.trial,
        datasets[item.trial.cohort],
        rung=item.rung,
        epochs=item.epochs,
        goal=item.goal,
        radius=item.radius,
        state=item.state,
    )
    return AtRung(result=result, state=state)


def _to_the_end(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord:
    """Trains on from the last rung, and runs all evaluations."""
    assert item.state is not None
    started = time.perf_counter()
    trained = train_from(item.trial, datasets[item.trial.cohort], item.state)
    seconds = time.perf_counter() - started
    record = evaluate_work(replace(item.work, trained=trained), datasets)
    return replace(record, weights=trained.checkpoint, seconds=record.seconds + seconds)
