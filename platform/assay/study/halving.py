"""The jobs of a sweep in their order: points in full, or asynchronous successive halving over epochs."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from assay.errors import SpecError
from assay.recipes import Recipe
from assay.study.search.base import Search, Settings
from assay.study.sweep_goals import ACCURACY, ROBUST, Goal

_EPOCHS = "training.epochs"


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """Numbers of epochs after which points are compared, and the share that goes on."""

    epochs: tuple[int, ...]
    """Ascending; the last is the whole training."""
    eta: int
    """One in ``eta`` points goes on."""

    @classmethod
    def up_to(cls, epochs: int, *, eta: int) -> "Rungs":
        """Returns rungs at the whole training over powers of ``eta``, from one epoch on.

        Args:
            epochs: of the whole training.
            eta: one in so many goes on.

        Returns:
            The rungs; 27 epochs and 3 give 1, 3, 9, 27.

        Raises:
            SpecError: the training is too short for two rungs.
        """
        found = [epochs]
        while found[0] >= eta:
            found.insert(0, found[0] // eta)
        if len(found) < 2:
            raise SpecError(
                f"--scheduler asha: training.epochs is {epochs}, and with --eta {eta} nothing can be stopped before "
                f"the end; train for at least {eta} epochs, or leave --scheduler out",
                setting=_EPOCHS,
                given=epochs,
                allowed=eta,
            )
        return cls(epochs=tuple(found), eta=eta)


def refuse_unhalvable(space: str, base: Recipe, keys: Sequence[str], goal: Goal) -> None:
    """Raises an error for a sweep whose points cannot be stopped and compared between epochs.

    Args:
        space: its name.
        base: the varied recipe.
        keys: the varied settings.
        goal: by which points are compared.

    Raises:
        SpecError: names what stands against it.
    """
    reasons = {
        "its recipe is federated: its rounds are no epochs, and clients keep their state": base.federation is not None,
        "its recipe trains teachers first, in full, whatever becomes of the point": bool(base.objective.teachers),
        "its recipe stops early by itself, and a longer look would stop it elsewhere": (
            base.training.early_stopping is not None
        ),
        f"it varies {_EPOCHS}, and rungs are compared after the same number of epochs": _EPOCHS in keys,
        f"its first goal is {goal.key}, and a training in progress is judged by accuracy or robust": (
            goal not in (ACCURACY, ROBUST)
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise SpecError(
                f"--scheduler asha cannot stop points of the space {space!r}: {reason}; use --scheduler none",
                setting="--scheduler",
                given="asha",
                allowed="none",
            )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A point that is trained up to a rung, or to the end and measured."""

    number: int
    """In the order of the jobs, from 0."""
    point: Settings
    rung: int | None = None
    """Place of the rung, from 0; None trains to the end and runs all evaluations."""


class Jobs(Protocol):
    """Decides which job comes next."""

    learns: bool
    """Whether outcomes decide which job comes next."""

    @property
    def total(self) -> int:
        """Number of points."""
        ...

    def next(self) -> Job | None:
        """Returns the next job.

        Returns:
            The job; None where there is none, or none before another outcome is told.
        """
        ...

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Takes the outcome of a job, in the order of the jobs.

        Args:
            number: of the job.
            values: one for each goal (at a rung for the first alone); None where the trial failed.
        """
        ...


class Plain:
    """Every point in full.

    Args:
        search: proposes the points.
    """

    def __init__(self, search: Search) -> None:
        self._search, self._next = search, 0
        self.learns, self.total = search.learns, search.total

    def next(self) -> Job | None:
        """Returns the next point as a job; see ``Jobs.next``."""
        point = self._search.propose()
        if point is None:
            return None
        self._next += 1
        return Job(number=self._next - 1, point=point)

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Passes the outcome on to the search; see ``Jobs.tell``."""
        self._search.tell(number, values)


@dataclass
class _Rung:
    """The points that were trained up to a rung, as pairs of their value, the smaller the better, and their number."""

    ranked: list[tuple[float, int]] = field(default_factory=list)
    """All of them, the best first; of equal points the earlier one is better."""
    staying: list[tuple[float, int]] = field(default_factory=list)
    """Heap of those that have not gone on."""

    def add(self, value: float, point: int) -> None:
        """Adds a point."""
        insort(self.ranked, (value, point))
        heapq.heappush(self.staying, (value, point))

    def promote(self, eta: int) -> int | None:
        """Returns the best point that has not gone on, if it is among the first 1 / eta; it then counts as gone on."""
        if not self.staying or bisect_left(self.ranked, self.staying[0]) >= len(self.ranked) // eta:
            return None
        return heapq.heappop(self.staying)[1]


class Halving:
    """Asynchronous successive halving, ASHA (Li et al. 2020, arXiv:1810.05934).

    Whenever a worker is free, the best point goes on that is among the first ``1 / eta`` of those at its rung and has
    not gone on yet, from the highest rung on; where there is none, a new point starts. No rung has to be full for that;
    ``sweep_queue.JobQueue`` says which outcomes must be known.

    Args:
        search: proposes the points; one that learns is told the value at the lowest rung, which all points reach.
        rungs: numbers of epochs.
        sign: 1 where a greater value is better, −1 where a smaller one is.
    """

    learns = True

    def __init__(self, search: Search, rungs: Rungs, *, sign: int) -> None:
        self._search, self._eta, self._sign = search, rungs.eta, sign
        self._rungs = [_Rung() for _ in rungs.epochs[:-1]]
        self._points: list[Settings] = []
        self._jobs: list[tuple[int, int]] = []
        """Point and rung of each job."""
        self.total = search.total

    def next(self) -> Job | None:
        """Returns the next job; see ``Jobs.next``."""
        for rung in reversed(range(len(self._rungs))):
            point = self._rungs[rung].promote(self._eta)
            if point is not None:
                return self._job(point, rung + 1)
        settings = self._search.propose()
        if settings is None:
            return None
        self._points.append(settings)
        return self._job(len(self._points) - 1, 0)

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Takes the outcome of a job; see ``Jobs.tell``."""
        point, rung = self._jobs[number]
        if rung == 0 and self._search.learns:
            self._search.tell(point, values)
        if values is not None and rung < len(self._rungs):
            self._rungs[rung].add(-self._sign * values[0], point)

    def _job(self, point: int, rung: int) -> Job:
        self._jobs.append((point, rung))
        last = rung == len(self._rungs)
        return Job(number=len(self._jobs) - 1, point=self._points[point], rung=None if last else rung)
