"""Follows folders of results: reads what is new a few times a second, and how far the jobs are that write them."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from assay.dashboard.folders import Folder, find_folders
from assay.dashboard.table import Trials
from assay.errors import UserError
from assay.store.columns import Place
from assay.store.progress import Progress
from assay.store.reader import Reader

TICK = 0.1
"""Seconds after which it is asked whether something is due."""
EVERY = 0.25
"""Seconds between two looks at the folders in which something happens."""
QUIET = 2.0
"""Seconds between two looks at a folder in which nothing happened of late."""
LISTING = 30.0
"""Seconds after which the files of a folder are listed, and new folders are looked for."""


class Followed:
    """One folder of results that is followed.

    Args:
        folder: of the results.
    """

    def __init__(self, folder: Folder) -> None:
        self.name, self.location = folder.name, folder.location
        self.reader = Reader(folder.location)
        self.progress: Progress | None = None
        self.kind = "study"
        self.problem = ""
        """Why the folder cannot be read; empty if it can."""
        self._next, self._listed = 0.0, -math.inf
        self._lock = threading.Lock()
        """The index is read by one thread at a time."""

    def look(self, number: int, trials: Trials, now: float) -> None:
        """Reads what is new, if it is time.

        Args:
            number: of the folder in the table.
            trials: the table.
            now: ``time.monotonic()``.
        """
        if now < self._next:
            return
        # A job that runs writes all it does into the log; pages would wait a second for a list of 100,000 files.
        listed = now - self._listed >= LISTING and not (self.alive and self._listed > 0)
        version = trials.version
        try:
            with self._lock:
                changes = self.reader.changes(listed=listed)
            trials.take(number, changes)
            self.progress, self.problem = self.reader.progress(), ""
            self.kind = "sweep" if is_sweep(self.reader) else "study"
        except (UserError, OSError) as error:  # a folder that is damaged or gone must not stop the page of the others
            self.problem = str(error)
        self._listed = now if listed else self._listed
        self._next = now + (EVERY if self.alive or trials.version > version else QUIET)

    @property
    def alive(self) -> bool:
        """Whether a job writes this folder now."""
        return self.progress is not None and self.progress.state(time.time()) == "running"

    def rows(self, place: Place) -> pa.Table:
        """Returns the rows of a trial.

        Args:
            place: folder and id of the trial.

        Returns:
            The rows; see ``Reader.rows``.
        """
        with self._lock:
            return self.reader.rows(place)


class Live:
    """The table of all trials, kept up to date by a thread.

    Args:
        named: folders or URIs, in which folders of results are looked for.

    Raises:
        UserError: a folder does not exist.
    """

    def __init__(self, named: Sequence[str]) -> None:
        self._named = named
        self.folders = [Followed(folder) for folder in find_folders(named)]
        self.trials = Trials([folder.name for folder in self.folders])
        self._over, self._found = threading.Event(), time.monotonic()
        self._overview: tuple[float, list[dict[str, Any]]] = (-EVERY, [])
        self._thread = threading.Thread(target=self._follow, name="dashboard", daemon=True)

    def start(self) -> None:
        """Reads everything once, and begins to follow."""
        self.look()
        # What Arrow took to read 100,000 trials is half of what the server may have.
        pa.default_memory_pool().release_unused()
        self._thread.start()

    def stop(self) -> None:
        """Ends following."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Reads what is new in every folder that is due."""
        now = time.monotonic()
        if now - self._found >= LISTING:
            self._found = now
            self._find()
        for number, folder in enumerate(self.folders):
            folder.look(number, self.trials, now)

    def overview(self) -> list[dict[str, Any]]:
        """Returns the state of every folder: how far its job is, and how many trials it has; all pages share one look.

        Returns:
            One mapping a folder, JSON-able.
        """
        made, known = self._overview
        if time.monotonic() - made >= EVERY:
            known = self._overview_now()
            self._overview = time.monotonic(), known
        return known

    def _overview_now(self) -> list[dict[str, Any]]:
        now = time.time()
        with self.trials.lock:
            counts = self.trials.counts()
        return [
            {
                "name": folder.name,
                "location": folder.location,
                "problem": folder.problem,
                "counts": own,
                "kind": folder.kind,
                "progress": folder.progress and {**asdict(folder.progress), "state": folder.progress.state(now)},
            }
            for folder, own in zip(list(self.folders), counts, strict=False)
        ]

    def _find(self) -> None:
        known = {folder.location for folder in self.folders}
        try:
            found = find_folders(self._named)
        except (UserError, OSError):
            return
        for folder in found:
            if folder.location not in known:
                self.trials.add_folder(folder.name)
                self.folders.append(Followed(folder))

    def _follow(self) -> None:
        while not self._over.wait(TICK):
            self.look()


def is_sweep(reader: Reader) -> bool:
    """Returns whether a folder holds a sweep, whose points were proposed and not named beforehand.

    Args:
        reader: of the folder.

    Returns:
        True if a sweep wrote it.
    """
    return reader.exists("sweep.json") or reader.exists("sweep.html")  # an earlier version wrote the page alone
