"""The jobs of a sweep in their order, each decided by the outcomes that it may know."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from assay.study.halving import Job, Jobs

LEAST_AHEAD = 8
"""Jobs that may be under way while the next one is decided, in a pool of few workers."""
PER_WORKER = 2
"""The same for each worker of a larger pool: so many more trials can be run beside one that takes longer."""


class JobQueue:
    """Gives out jobs, and passes outcomes on in the order of the jobs.

    A job that depends on outcomes is decided when those of all but the last ``ahead`` jobs before it were told, and no
    others. So which jobs there are does not depend on which worker was faster, or on where an earlier run was killed.
    Where the jobs do not depend on outcomes, nothing is kept.

    Args:
        jobs: decides which job comes next.
        ahead: jobs whose outcomes may be unknown.
    """

    def __init__(self, jobs: Jobs, ahead: "Lookahead") -> None:
        self._jobs, self._ahead = jobs, ahead
        self._asked = self._told = 0
        self._outcomes: dict[int, Sequence[float] | None] = {}
        """Of the jobs that ended and were not told yet."""

    def next(self) -> Job | None:
        """Returns the next job.

        Returns:
            The job; None where there is none, or none before a running job ends.
        """
        if not self._jobs.learns:
            job = self._jobs.next()
            self._asked += job is not None
            return job
        while self._asked - self._told >= self._ahead.of(self._asked):
            if not self._tell() and not self._ahead.grow(self._asked):
                return None
        while (job := self._jobs.next()) is None:
            if not self._tell():
                return None
        self._asked += 1
        return job

    def end(self, number: int, values: Sequence[float] | None) -> None:
        """Takes the outcome of a job.

        Args:
            number: of the job.
            values: one for each goal; None where it failed.
        """
        if self._jobs.learns:
            self._outcomes[number] = values

    def _tell(self) -> bool:
        """Passes the outcome of the next job on; returns whether it is known."""
        if self._told not in self._outcomes:
            return False
        self._jobs.tell(self._told, self._outcomes.pop(self._told))
        self._told += 1
        return True


class Lookahead:
    """The number of jobs whose outcomes may be unknown while another job is decided; it grows with the pool of workers.

    The jobs depend on it. So each number is stored with the first job that it holds for: a sweep that goes on, perhaps
    on a smaller pool, decides the same jobs again. It grows where a worker would wait for an outcome, which no job of
    an earlier run did.

    Args:
        steps: pairs of a job and the number from this job on, by ascending jobs, the first of which is 0.
        workers: returns the number of trials of different jobs that the pool runs at a time; None for a number that
            stays.
        store: is called with the steps before a job is decided by a new one.
    """

    def __init__(
        self,
        steps: Sequence[tuple[int, int]] = ((0, LEAST_AHEAD),),
        *,
        workers: Callable[[], float] | None = None,
        store: Callable[[Sequence[tuple[int, int]]], None] = lambda steps: None,
    ) -> None:
        self.steps = list(steps)
        self._workers, self._store = workers, store

    def of(self, job: int) -> int:
        """Returns the number for a job.

        Args:
            job: its number.

        Returns:
            The number of jobs before it whose outcomes may be unknown.
        """
        return self.steps[bisect_right(self.steps, job, key=lambda step: step[0]) - 1][1]

    def grow(self, job: int) -> bool:
        """Adapts the number to the pool, from a job on for which a worker would wait otherwise.

        Args:
            job: its number.

        Returns:
            Whether the number is greater now.
        """
        wanted = 0 if self._workers is None else PER_WORKER * math.ceil(self._workers())
        if job < self.steps[-1][0] or wanted <= self.steps[-1][1]:
            return False
        self.steps.append((job, wanted))
        self._store(self.steps)
        return True
