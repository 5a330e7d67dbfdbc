"""The counts, times and failures of the trials of a run."""

from dataclasses import dataclass, field

from assay.results import TrialRecord


@dataclass(kw_only=True)
class Tally:
    """Trials that ended, with their times and failures."""

    total: int
    """Trials that end in this run, or ended before and are counted in ``ended``."""
    workers: int = 1
    ended: int = 0
    ran: int = 0
    """Pieces of work that ran now: trials, and trainings up to a rung of a sweep."""
    spent: float = 0.0
    """Seconds of what ran, added up."""
    failures: dict[str, str] = field(default_factory=dict)
    """Errors of the trials that failed, by label."""

    @property
    def seconds_left(self) -> float:
        """Estimated time of the remaining trials, from the mean time of what ran."""
        return max(self.total - self.ended, 0) * self.spent / max(self.ran, 1) / self.workers

    def end(self, record: TrialRecord, label: str) -> None:
        """Counts a trial that ended.

        Args:
            record: of the trial.
            label: of the trial.
        """
        self.ended += 1
        self.spent += record.seconds
        if record.failed:
            self.failures[label] = record.error
