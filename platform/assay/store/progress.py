"""How far a job is that writes a folder of results: one small file, replaced as a whole, which a page can show.

The file says nothing that the results do not; it tells what is under way, which no result tells yet.
"""

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from assay.errors import StorageError
from assay.store.files import Files

FILE = "progress.json"
LEAST = 1.0
"""Least number of seconds between two versions of the file."""
BEAT = 10.0
"""Seconds after which the file is written even if nothing happened: a long trial is no job that was killed."""
SILENT = 3 * BEAT
"""Seconds without a sign after which a job that did not end counts as stopped."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a job, as of ``beat``."""

    total: int = 0
    """Planned trials."""
    finished: int = 0
    """Trials that have results, those of earlier runs included."""
    failed: int = 0
    """Trials of this run that failed."""
    workers: int = 1
    """Present number."""
    running: tuple[str, ...] = ()
    """Labels of the trials under way."""
    said: str = ""
    """What the longest step said last of itself."""
    seconds_left: float | None = None
    """Estimated time of the remaining trials; None before the first is done."""
    began: float = 0.0
    """Seconds since 1970, as ``beat``."""
    beat: float = 0.0
    """When the file was written."""
    ended: bool = False

    @classmethod
    def from_text(cls, text: str) -> "Progress | None":
        """Returns the progress that a file holds.

        Args:
            text: its content.

        Returns:
            None if it is empty or none of this version.
        """
        try:
            values = json.loads(text)
            return cls(**{**values, "running": tuple(values["running"])})
        except (ValueError, KeyError, TypeError):
            return None

    def state(self, now: float) -> str:
        """Returns what the job is doing.

        Args:
            now: seconds since 1970.

        Returns:
            ``running``, ``ended``, or ``stopped`` where a job did not end and gave no sign for ``SILENT`` seconds.
        """
        if self.ended:
            return "ended"
        return "stopped" if now - self.beat > SILENT else "running"


@dataclass
class _Told:
    """What was told since the job began."""

    total: int = 0
    finished: int = 0
    failed: int = 0
    workers: int = 1
    running: dict[str, None] = field(default_factory=dict)
    said: str = ""
    seconds_left: float | None = None


class ProgressFile:
    """Writes ``progress.json`` while a job runs. Only for the one job that writes results.

    Its methods are those of a study's ``Watcher``, so that whatever runs trials tells both alike.

    Args:
        location: of the results, a folder or a URI.
        clock: returns seconds since 1970.
    """

    def __init__(self, location: str, clock: Any = time.time) -> None:
        self._files, self._clock = Files(location), clock
        self._told, self._began, self._written = _Told(), 0.0, -LEAST
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, cohort: str, dataset: Any) -> None:
        """Does nothing: what was read of the data stands in the report."""

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        """Writes the number of trials, and begins to give signs; see ``Watcher.begin``."""
        self._told, self._began = _Told(total=total, finished=finished, workers=workers), self._clock()
        self._over.clear()
        self._write(now=True)
        self._thread = threading.Thread(target=self._beat, name="progress file", daemon=True)
        self._thread.start()

    def started(self, label: str) -> None:
        """Adds a trial to those under way; see ``Watcher.started``."""
        self._told.running[label] = None
        self._write()

    def leading(self, trial: Any, round_number: int, rounds: int) -> None:
        """Tells the round of a federated training; see ``Watcher.leading``."""
        self._told.running[trial.label] = None
        self.status(f"{trial.label}: round {round_number} of {rounds}")

    def status(self, said: str) -> None:
        """Tells what a long trial is doing; see ``Watcher.status``."""
        self._told.said = said
        self._write()

    def done(self, record: Any, label: str, *, seconds_left: float, workers: int) -> None:
        """Counts a trial; see ``Watcher.done``."""
        told = self._told
        told.finished, told.failed = told.finished + 1, told.failed + bool(record.error)
        told.running.pop(label, None)
        told.said, told.seconds_left, told.workers = "", seconds_left, workers
        self._write()

    def end(self) -> None:
        """Writes that the job ended, also when it failed; see ``Watcher.end``."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._told.running.clear()
        self._write(now=True, ended=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT / 2):
            if self._clock() - self._written >= BEAT / 2:
                self._write()

    def _write(self, *, now: bool = False, ended: bool = False) -> None:
        """Writes the file, unless it was written a moment ago; a disk that is full must not end a study."""
        with self._lock:
            moment = self._clock()
            if not now and moment - self._written < LEAST:
                return
            self._written = moment
            told = {**vars(self._told), "running": tuple(self._told.running)}
            progress = Progress(**told, began=self._began, beat=moment, ended=ended)
            try:
                self._files.commit(FILE, json.dumps(asdict(progress)).encode())
            except (OSError, StorageError):
                return
