"""A lease on a folder of an object store, so that one job writes its results at a time.

Local folders are locked by the operating system. The object stores that pyarrow reaches offer neither locks nor writes
under a condition, so the lease is an object: its owner, a number that grows with each owner, and a heartbeat that is
written every few seconds.

What it guarantees: a second job is refused as long as the first one's heartbeat moves; a job that was killed is
replaced after ``SILENCE`` seconds without a heartbeat; an owner that was replaced, because it was stopped or cut off
for so long, notices before its next write and writes nothing more.

What it does not guarantee: between that look and the write itself lie some milliseconds in which another job can become
the owner; and of two jobs that begin in the same moment both would go on if the store took longer than ``SETTLING`` to
show one the other's write. No clocks are compared: each job watches with its own whether the heartbeat moves.
"""

import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from assay.errors import StorageError, UserError

logger = logging.getLogger(__name__)

NAME = ".lease"
BEAT = 10.0
"""Seconds between two heartbeats."""
SILENCE = 45.0
"""Seconds without a heartbeat after which the owner counts as killed."""
SETTLING = 2.0
"""Seconds in which a store must show the write of another job."""
_LOOK = 1.0
"""Seconds between two looks at the heartbeat of another job."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Content of the object."""

    owner: str
    """Random name of the job that holds the lease; empty when it was given back."""
    number: int
    """Grows with each owner."""
    beat: int
    """Grows with each heartbeat."""
    machine: str = ""
    process: int = 0


class Lease:
    """The lease of one job on one folder.

    Args:
        location: of the folder, for messages.
        read: returns the content of the object; empty if it is absent.
        write: replaces it.
    """

    def __init__(self, location: str, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        self._location, self._read, self._write = location, read, write
        self._owner = uuid.uuid4().hex
        self._holder: Holder | None = None
        self._writing = threading.Lock()
        """A heartbeat must not be written after the lease was given back."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Takes the lease for the block, and writes its heartbeat from a thread.

        Raises:
            UserError: another job holds it.
        """
        self._take()
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=BEAT)
            self._give_back()

    def check(self) -> None:
        """Called before each write.

        Raises:
            StorageError: another job has taken the lease, since this one showed no heartbeat for too long.
        """
        if self._holder is not None and (now := self._now()).owner != self._owner:
            raise StorageError(
                f"{_described(now)} now writes {self._location}, because this job showed no sign of life for more than "
                f"{SILENCE:g} s; nothing more is written here. Start it again when the other has ended",
                setting="results",
                given=self._location,
            )

    def _take(self) -> None:
        before = self._watched_until_silent()
        mine = Holder(owner=self._owner, number=before.number + 1, beat=0, machine=platform.node(), process=os.getpid())
        self._put(mine)
        time.sleep(SETTLING)
        if (now := self._now()).owner != self._owner:
            raise self._refusal(now)
        self._holder = mine

    def _watched_until_silent(self) -> Holder:
        """Returns the last holder, once it is sure that it has given the lease back or shows no heartbeat."""
        first = self._now()
        began = time.monotonic()
        if first.owner:
            logger.warning(
                "%s has not given back the lock of %s; waiting up to %g s to see whether it still works",
                _described(first),
                self._location,
                SILENCE,
            )
        while first.owner and time.monotonic() - began < SILENCE:
            time.sleep(_LOOK)
            now = self._now()
            if not now.owner:
                return now
            if now != first:
                raise self._refusal(now)
        return first

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(BEAT):
            with self._writing:
                holder = self._holder
                if holder is None:
                    return
                try:
                    if self._now().owner != self._owner:
                        return  # the next write notices it
                    self._holder = Holder(**{**asdict(holder), "beat": holder.beat + 1})
                    self._put(self._holder)
                except (OSError, StorageError):
                    continue  # the store cannot be reached now; a later heartbeat may get through

    def _give_back(self) -> None:
        with self._writing:
            holder, self._holder = self._holder, None
            try:
                if holder is not None and self._now().owner == self._owner:
                    self._put(Holder(owner="", number=holder.number, beat=0))
            except (OSError, StorageError):
                return  # the next job waits until it is silent

    def _now(self) -> Holder:
        content = self._read()
        if not content:
            return Holder(owner="", number=0, beat=0)
        try:
            return Holder(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise StorageError(
                f"{self._location}/{NAME} is damaged ({error}); delete it if no job writes there",
                setting="results",
                given=self._location,
            ) from error

    def _put(self, holder: Holder) -> None:
        self._write(json.dumps(asdict(holder)).encode())

    def _refusal(self, holder: Holder) -> UserError:
        return UserError(
            f"another job is writing {self._location} ({_described(holder)}); wait for it, or give --results elsewhere",
            setting="results",
            given=self._location,
        )


def _described(holder: Holder) -> str:
    return f"process {holder.process} on {holder.machine}" if holder.process else "another job"
