"""Time of a training, and its records a second without start-up, checkpoints and what follows an epoch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training import pace
from assay.training.build import build_trainer
from assay.training.hooks.base import Hook
from assay.training.loop import Trainer
from assay.training.pace import Pace, Speed
from tests.training.workers import Group, Member, in_threads

Blobs = Callable[..., tuple[Tensor, Tensor]]
FIRST, STEP, SAVING, AFTER_EPOCH = 100.0, 1.0, 1000.0, 50.0


class Clock:
    """Replaces ``time.perf_counter`` by a clock that only what is said here moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Hook):
    """Makes the first step slow, all others take a second, and the end of an epoch some."""

    name = "timed"

    def __init__(self, clock: Clock) -> None:
        self._clock, self._first = clock, True

    def after_step(self, trainer: Trainer) -> None:
        self._clock.now += FIRST if self._first else STEP
        self._first = False

    def after_epoch(self, trainer: Trainer, *, last: bool) -> None:
        self._clock.now += AFTER_EPOCH


class EveryThird:
    """Checkpoints that take long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def due(self, trainer: Trainer) -> bool:
        return trainer.step % 3 == 0

    def save(self, trainer: Trainer) -> None:
        self._clock.now += SAVING


@pytest.mark.parametrize("stored", [False, True])
def test_only_steps_after_the_first_count_for_the_speed(
    stored: bool, blobs: Blobs, blob_bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    recipe = Recipe(training=Training(epochs=2, batch_size=16))
    trainer = build_trainer(nn.Linear(5, 2), recipe, *blobs(50), bounds=blob_bounds, seed=0, hooks=[Timed(clock)])
    trainer.run(checkpoints=EveryThird(clock) if stored else None)
    assert trainer.pace.speeds == {1: Speed(steps=7, records=84, seconds=7 * STEP)}
    assert trainer.pace.speeds[1].records / trainer.pace.speeds[1].seconds == 12
    assert trainer.seconds == trainer.pace.worker_seconds == FIRST + 7 * STEP + 2 * AFTER_EPOCH


def test_workers_count_the_records_of_all_and_the_time_of_each(blobs: Blobs, blob_bounds: Bounds) -> None:
    group, recipe = Group(2), Recipe(training=Training(epochs=2, batch_size=16))
    models = [nn.Linear(5, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())

    def go(rank: int) -> dict[str, Any]:
        member = Member(group, rank)
        trainer = build_trainer(models[rank], recipe, *blobs(50), bounds=blob_bounds, seed=0, collective=member)
        trainer.run()
        return trainer.pace.state()

    for state in in_threads(2, go):
        assert state["worker_seconds"] == pytest.approx(2 * state["seconds"])
        assert (state["speeds"]["2"]["steps"], state["speeds"]["2"]["records"]) == (7, 84)


def test_what_other_numbers_of_workers_did_comes_back() -> None:
    one, other = Pace(4, torch.device("cpu")), Pace(2, torch.device("cpu"))
    one.start()
    one.step(5)
    one.step(7)
    one.lap()
    one.stop()
    other.restore(one.state())
    assert other.state() == one.state()
    assert other.speeds[4].records == 7
