"""What a worker says reaches whoever listens at the driver, and says nothing where nobody does; without a cluster."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from assay import progress
from assay.cluster.board import Board, Reports
from assay.cluster.worker import Worker


class Method:
    """A method of an actor, which answers at once."""

    def __init__(self, called: Callable[..., Any]) -> None:
        self.remote = called


class Handle:
    """A board as Ray hands it out."""

    def __init__(self) -> None:
        board = Board()
        self.say, self.read = Method(board.say), Method(board.read)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Handle:
    """A board of the name "known"; there is no other."""
    handle = Handle()

    def get_actor(name: str) -> Handle:
        if name != "known":
            raise ValueError(f"Failed to look up actor with name {name!r}")
        return handle

    monkeypatch.setattr("ray.get_actor", get_actor)
    monkeypatch.setattr("ray.get", lambda answer, timeout: answer)
    return handle


def worker(place: int, board: str) -> Worker:
    return Worker(place, board, gpu=True)


def test_lines_of_busy_workers_are_handed_on_once(board: Handle) -> None:
    said: list[str] = []
    reports = Reports()
    reports._board = board
    for place in (0, 1):
        worker(place, "known")._tell(f"trial {place}: robustness, 10 s")
    with progress.listening(said.append):
        reports.relay({1})
        reports.relay({0, 1})
    assert said == ["trial 1: robustness, 10 s"]


def test_a_worker_tells_of_its_item_while_it_works(board: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = progress.listening
    monkeypatch.setattr(progress, "listening", lambda listener: listening(listener, every=0.01))

    def long(item: str, shared: str) -> str:
        with progress.step(item), progress.step(shared):
            while not (lines := board.read.remote()):
                pass
        return lines[4]

    assert worker(4, "known").run(long, "trial", "membership") == (None, "trial: membership, 0 s")


def test_without_a_board_nothing_is_said(board: Handle) -> None:
    worker(0, "unknown")._tell("trial: robustness, 10 s")
    assert board.read.remote() == {}


def test_a_worker_without_a_gpu_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    worker(0, "unknown")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    Worker(0, "unknown", gpu=False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
