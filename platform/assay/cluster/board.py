"""Progress of workers, collected by one actor and read by the driver."""

import contextlib
import uuid
from collections.abc import Container
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from assay import progress

_READING = 5.0
"""Seconds in which the board must answer; otherwise this progress report is skipped."""


class Board:
    """Actor that collects the progress of workers; started when the first progress is to be reported."""

    def __init__(self) -> None:
        self._said: dict[int, str] = {}

    def say(self, place: int, said: str) -> None:
        """Stores the progress of a worker.

        Args:
            place: number of the worker in the pool.
            said: its progress, as one line.
        """
        self._said[place] = said

    def read(self) -> dict[int, str]:
        """Returns and clears the progress since the last call.

        Returns:
            Lines by number of the worker.
        """
        said, self._said = self._said, {}
        return said


class Reports:
    """The driver's access to the board of a pool."""

    def __init__(self) -> None:
        self.name = f"assay-board-{uuid.uuid4().hex}"
        """Name of the actor, for the workers."""
        self._board: Any = None

    def relay(self, places: Container[int]) -> None:
        """Passes the progress of some workers to the listener of this process.

        Args:
            places: numbers of the workers.
        """
        if self._board is None:
            self._board = ray.remote(num_cpus=0)(Board).options(name=self.name, get_if_exists=True).remote()
        try:
            said = ray.get(self._board.read.remote(), timeout=_READING)
        except GetTimeoutError:
            return
        except RayActorError:
            self._board = None  # its node was lost; the next report starts another one
            return
        for place, line in sorted(said.items()):
            if place in places:
                progress.relay(line)

    def close(self) -> None:
        """Stops the actor."""
        if self._board is not None:
            ray.kill(self._board)
        self._board = None


def report(board: str, place: int, said: str) -> None:
    """Sends the progress of this worker to a board, if there is one.

    Args:
        board: name of the actor.
        place: number of the worker.
        said: its progress, as one line.
    """
    with contextlib.suppress(ValueError, RayError):  # the board does not exist yet, or has ended
        ray.get_actor(board).say.remote(place, said)
