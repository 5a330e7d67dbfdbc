"""Progress of a study on a terminal: a line for every finished trial, and a live progress bar.

Where ``ASSAY_PROGRESS=lines`` asks for it, lines for programs take the place of those of finished trials.
"""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.console import count_of, duration, print_reading
from jobs.progress_lines import Progress as Stated
from jobs.progress_lines import as_line, lines_wanted

if TYPE_CHECKING:
    from assay.data.base import Dataset
    from assay.results import TrialRecord
    from assay.study.trial import Trial

# Between two lines about a step that is not finished: a log keeps each.
STATUS_SECONDS = 1.0


class ConsoleWatcher:
    """``Watcher`` that prints to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done = self._total = self._workers = 0
        self._lines, self._told = lines_wanted(), -STATUS_SECONDS
        self._bar = Progress(
            TextColumn("[bold]{task.fields[doing]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, doing="starting", left="")

    def read(self, cohort: str, dataset: "Dataset") -> None:
        """Prints what was read of a cohort's data; see ``Watcher.read``."""
        print_reading(self._console, cohort, dataset)

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        """Prints the number of trials, and starts the progress bar; see ``Watcher.begin``."""
        self._total, self._done, self._workers = total, finished, workers
        if finished == total:
            self._console.print(
                f"all {total} trials were finished before" if total > 1 else "the trial was finished before"
            )
        else:
            already = f", {finished} finished before" if finished else ""
            self._console.print(f"{count_of(total, 'trial')} on {count_of(workers, 'worker')}{already}")
        self._bar.update(self._task, total=total, completed=finished)
        self._bar.start()
        self._tell("starting", finished=True)

    def started(self, label: str) -> None:
        """Does nothing: the bar shows what a trial says of itself; see ``Watcher.started``."""

    def leading(self, trial: "Trial", round_number: int, rounds: int) -> None:
        """Shows the round of a federated training; see ``Watcher.leading``."""
        said = f"{trial.label} · round {round_number} of {rounds}"
        self._bar.update(self._task, doing=said)
        if self._lines:
            self._tell(said)
        elif not self._console.is_terminal and round_number in (1, rounds):
            self._console.print(f"  leading {said}")

    def status(self, said: str) -> None:
        """Shows the progress of a long step; see ``Watcher.status``."""
        self._bar.update(self._task, doing=said)
        if self._lines:
            self._tell(said)
        elif not self._console.is_terminal:
            self._console.print(f"  {said}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def done(self, record: "TrialRecord", label: str, *, seconds_left: float, workers: int) -> None:
        """Prints a line for a finished trial, and the number of workers if it has changed; see ``Watcher.done``."""
        self._done += 1
        if self._lines:
            self._tell(label, finished=True, seconds_left=seconds_left)
            if not record.failed:
                return
        mark = "[red]failed[/red]" if record.failed else "[green]done[/green]"
        left = (
            f"{self._total - self._done} left, about {duration(seconds_left)}{self._changed(workers)}"
            if self._done < self._total
            else "all done"
        )
        self._console.print(
            f"[{self._done:>3}/{self._total}] {mark} {label} · {record.seconds:.1f} s · {left}",
            highlight=False,
        )
        if record.failed:
            self._console.print(f"      {record.error.splitlines()[0]}", style="red", markup=False)
        self._bar.update(self._task, completed=self._done, doing=label, left=left)

    def end(self) -> None:
        """Stops the progress bar."""
        self._bar.stop()

    def _changed(self, workers: int) -> str:
        """Returns the number of workers in words if it is not the one that was told last."""
        told, self._workers = self._workers, workers
        return "" if told == workers else f" on {count_of(workers, 'worker')}"

    def _tell(self, doing: str, *, finished: bool = False, seconds_left: float | None = None) -> None:
        """Prints a line for programs, if they are wanted: of each finished piece, and of others once a second at most."""
        now = time.monotonic()
        if self._lines and (finished or now - self._told >= STATUS_SECONDS):
            self._told = now
            stated = Stated(self._done, self._total, doing, seconds_left)
            self._console.print(as_line(stated), markup=False, highlight=False, emoji=False, soft_wrap=True)
