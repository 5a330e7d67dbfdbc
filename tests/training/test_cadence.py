"""Checkpoints come when they were asked for, at the same steps on all workers."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assay.errors import UserError
from assay.training.cadence import Cadence, Every
from assay.training.collective import Alone
from tests.training.workers import Group, Member, in_threads


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("500steps", 500, "steps"),
        ("1 step", 1, "steps"),
        ("10min", 10, "minutes"),
        (" 0.5 Minutes ", 0.5, "minutes"),
        ("5epochs", 5, "epochs"),
        ("1epoch", 1, "epochs"),
        ("7", 7, "epochs"),
    ],
)
def test_a_distance_has_a_unit(text: str, count: float, unit: str) -> None:
    assert Every.parse(text) == Every(count=count, unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "steps", "0", "0steps", "-5", "1.5steps", "2.5", "0min", "5 hours", "nan min", "5;"]
)
def test_what_is_no_distance_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        Every.parse(text)
    assert (caught.value.setting, caught.value.given) == ("--checkpoint-every", text)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Walk = Callable[..., tuple[list[int], list[int]]]


def walk(cadence: Cadence, clock: Clock, seconds: list[float], *, step: int = 0, per_epoch: int = 10) -> Any:
    """Steps at which a checkpoint was due, and for each the step by which the next one is; one step for each time."""
    trainer: Any = SimpleNamespace(
        step=step, total_steps=step + len(seconds), steps_per_epoch=per_epoch, parameters=[torch.zeros(1)]
    )
    due, promised = [], []
    for taken in seconds:
        trainer.step += 1
        clock.now += taken
        trainer.finished = trainer.step == trainer.total_steps
        if cadence.due(trainer):
            cadence.saved(trainer)
            due.append(trainer.step)
            promised.append(cadence.next_by(trainer))
    return due, promised


@pytest.mark.parametrize(("every", "due"), [("7steps", [7, 14, 21, 25]), ("1epoch", [10, 20, 25]), ("2", [20, 25])])
def test_steps_and_epochs_are_counted_from_the_beginning(every: str, due: list[int]) -> None:
    clock = Clock()
    assert walk(Cadence(Every.parse(every), Alone()), clock, [1.0] * 25)[0] == due
    # A training that was resumed at step 5 has the same checkpoints.
    assert walk(Cadence(Every.parse(every), Alone()), clock, [1.0] * 20, step=5)[0] == due


def test_minutes_pass_by_the_clock() -> None:
    clock = Clock()
    due, _ = walk(Cadence(Every.parse("1min"), Alone(), clock=clock), clock, [0.5] * 600)
    assert due[0] == 21, "the first one is early, since nobody knows how long a step takes"
    assert due[-1] == 600
    for before, after in pairwise(due[:-1]):
        assert 119 <= after - before <= 123


@pytest.mark.parametrize(
    "seconds", [[0.5] * 300, [3.0] * 100, [0.001] * 5000, [0.1] * 300 + [0.0001] * 20000 + [5.0] * 50]
)
def test_the_next_checkpoint_comes_no_later_than_was_said(seconds: list[float]) -> None:
    """Also where steps become faster all at once."""
    clock = Clock()
    cadence = Cadence(Every.parse("0.2min"), Alone(), clock=clock)
    due, promised = walk(cadence, clock, seconds)
    assert all(after <= limit for limit, after in zip(promised, due[1:], strict=False))


def test_workers_with_different_clocks_decide_alike() -> None:
    """By the clock of the first one."""
    group = Group(3)
    speeds = (0.5, 0.01, 60.0)

    def go(rank: int) -> list[int]:
        clock = Clock()
        cadence = Cadence(Every.parse("1min"), Member(group, rank), clock=clock)
        due: list[int] = walk(cadence, clock, [speeds[rank]] * 400)[0]
        return due

    first, *others = in_threads(3, go)
    assert others == [first, first]
    assert len(first) == 5
