"""The order of a sweep: its jobs one after the other, each decided by the outcomes that it may know."""

from collections.abc import Sequence

from assay.study.halving import Job, Jobs


class Order:
    """Gives out jobs, and passes outcomes on in the order of the jobs.

    A job that depends on outcomes is decided when those of all but the last ``ahead`` jobs before it were told, and no
    others. So which jobs there are does not depend on which worker was faster, on the number of workers, or on where an
    earlier run was killed. Where the jobs do not depend on outcomes, nothing is kept.

    Args:
        jobs: decides which job comes next.
        ahead: jobs whose outcomes may be unknown.
    """

    def __init__(self, jobs: Jobs, *, ahead: int) -> None:
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
        while self._asked - self._told >= self._ahead:
            if not self._tell():
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
