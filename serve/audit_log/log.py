"""The decision log of a process: calls are put into a queue, and a thread seals, writes and syncs their lines."""

import atexit
import errno
import logging
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assay.errors import UserError, storage_errors
from serve.audit_log.chain import Chain, now, today
from serve.audit_log.decision import Decision, LogFullError, Refused, entry_of, time_text
from serve.audit_log.files import files_of, head_file, read_head
from serve.audit_log.keys import Keys
from serve.audit_log.retention import DAYS, expire, expire_others

logger = logging.getLogger(__name__)

Full = Literal["refuse", "continue"]
Sync = Literal["batches", "always"]

BATCH = 64
"""Lines after which they are synced."""
EVERY = 1.0
"""Seconds after which they are synced at the latest; and after which a full disk is tried again."""
_GATHER = 0.02
"""Seconds in which lines are gathered before they are written together."""
_COUNTED = 60.0
"""Seconds between two lines that count refused calls."""
MOST_HELD = 64 << 20
"""Bytes of bodies and records that may wait for their line."""


@dataclass(frozen=True, slots=True)
class _Event:
    """What happened to the process or to a model."""

    name: str
    at: float
    about: dict[str, Any]


_Said = Decision | Refused | _Event


class DecisionLog:
    """Writes what a process answers into a chain of its own.

    With ``sync="batches"``, lines are on disk within a second or 64 lines: a power failure loses no more, and a killed
    process the lines of its last 20 ms. With ``sync="always"`` an answer waits until its line is on disk.

    Args:
        folder: of the log; one for all replicas and models. Made where there is none.
        full: where the disk does not take lines, whether calls are refused, or go on and are counted as lost.
        sync: see above.
        days: retention.
        about: of the process, for the line of its start.

    Raises:
        StorageError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        full: Full = "refuse",
        sync: Sync = "batches",
        days: int = DAYS,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self._policy, self._always, self._days = folder, full, sync == "always", days
        with storage_errors(str(folder), setting="log"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._keys = Keys.create(folder)
            self._chain = Chain.claim(folder, self._keys)
            self._queue: queue.SimpleQueue[tuple[_Said, Future[None] | None] | None] = queue.SimpleQueue()
            self._given = self._taken = 0
            self._lost = self._lost_told = 0
            self._why = ""
            self._refused: Counter[int] = Counter()
            self._counted_at = time.monotonic()
            self._unsynced: list[float] = []
            self._waiting: list[Future[None]] = []
            policy = {"full": full, "sync": sync, "days": days}
            self._chain.add({"event": "start", "time": now(), "pid": os.getpid(), "python": sys.version.split()[0],
                             "policy": policy, **(about or {}), "heads": self._heads()})  # fmt: skip
            self._chain.write()
            self._chain.sync()
            self._expire()
        self._thread = threading.Thread(target=self._run, daemon=True, name="decision-log")
        self._thread.start()
        atexit.register(self.close)

    @property
    def writer(self) -> str:
        """Name of the chain of this process."""
        return self._chain.writer

    def record(self, said: Decision | Refused) -> Future[None] | None:
        """Takes an answered or a refused call; a few microseconds.

        Args:
            said: the call.

        Returns:
            With ``sync="always"``, what is done once the line is on disk; else None.

        Raises:
            LogFullError: the log cannot be written, and the policy is to refuse.
        """
        if isinstance(said, Refused):
            self._queue.put((said, None))
            return None
        why = self._why or (self._given - self._taken > MOST_HELD and "it is behind the calls") or ""
        if why and self._policy == "refuse":
            raise LogFullError(f"the decision log cannot be written ({why}), and no answer is given without it")
        if why:
            self._lost += 1
            return None
        self._given += said.size
        future: Future[None] | None = Future() if self._always else None
        self._queue.put((said, future))
        return future

    def event(self, name: str, **about: Any) -> None:
        """Takes what happened to a model: ``load``, ``promote``, ``rollback``, ``unload``.

        Args:
            name: of the event.
            about: JSON-able values without data of patients.
        """
        self._queue.put((_Event(name, time.time(), about), None))

    def close(self) -> None:
        """Writes what waits, with a last line, and lets the chain go."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(10 * EVERY)

    def _run(self) -> None:
        last = False
        while not last:
            gathered = self._gather()
            last = None in gathered
            try:
                for one in gathered:
                    if one is not None:
                        self._seal(*one)
                self._count_refused(at_once=last)
                if last:
                    self._end()
                self._keep(last=last)
            except Exception:
                # Without this thread the service would go on without a log.
                logger.exception("the decision log failed on a line")
                self._release(LogFullError("the decision log failed on this call"))
        self._chain.close()

    def _gather(self) -> list[tuple[_Said, Future[None] | None] | None]:
        """Waits for calls, but not beyond the time at which something is due."""
        due = self._unsynced[0] + EVERY if self._unsynced else self._counted_at + _COUNTED
        wait = EVERY if self._why else max(due - time.monotonic(), 0.0)
        try:
            gathered = [self._queue.get(timeout=wait)]
        except queue.Empty:
            return []
        if not self._always:
            time.sleep(_GATHER)
        while not self._queue.empty():
            gathered.append(self._queue.get())
        return gathered

    def _seal(self, said: _Said, future: Future[None] | None) -> None:
        if isinstance(said, Refused):
            self._refused[said.status] += 1
            return
        if future is not None:
            self._waiting.append(future)
        if isinstance(said, Decision):
            self._taken += said.size
            self._chain.add(self._entry(said))
        else:
            self._chain.add({"event": said.name, "time": time_text(said.at), **said.about})
        self._unsynced.append(time.monotonic())

    def _entry(self, decision: Decision) -> dict[str, Any]:
        try:
            return entry_of(decision, self._keys.current)
        except Exception as error:
            # A line must stand for every answer, whatever is wrong with its details.
            logger.exception("a line of the decision log lacks its details")
            return {
                "event": "answer",
                "time": time_text(decision.at),
                "model": decision.model,
                "version": decision.version,
                "call": decision.call,
                "lacks_details": type(error).__name__,
            }

    def _count_refused(self, *, at_once: bool) -> None:
        if not at_once and time.monotonic() - self._counted_at < _COUNTED:
            return
        self._counted_at = time.monotonic()
        if self._refused:
            counts = {str(status): count for status, count in sorted(self._refused.items())}
            self._chain.add({"event": "refusals", "time": now(), "counts": counts})
            self._unsynced.append(time.monotonic())
            self._refused.clear()

    def _count_lost(self) -> None:
        lost = self._lost
        if lost > self._lost_told:
            self._chain.add({"event": "lost", "time": now(), "calls": lost - self._lost_told})
            self._unsynced.append(time.monotonic())
            self._lost_told = lost

    def _end(self) -> None:
        """Seals the line of the end; verification takes any line after it in the same file for a forged one."""
        self._count_lost()
        self._chain.add({"event": "stop", "time": now()})
        self._unsynced.append(time.monotonic())

    def _keep(self, *, last: bool) -> None:
        """Writes what is sealed, and syncs it when that is due; notes why where the disk does not take it."""
        try:
            self._chain.write()
            if not last and self._lost > self._lost_told:
                self._count_lost()
                self._chain.write()
            waited = bool(self._unsynced) and time.monotonic() - self._unsynced[0] >= EVERY
            if last or self._waiting or self._why or waited or len(self._unsynced) >= BATCH:
                self._chain.sync()
                self._unsynced.clear()
                self._release(None)
            if not last and (today() != self._chain.day or self._chain.full):
                self._rotate()
            self._why = ""
        except (OSError, UserError) as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
            if not self._why:
                logger.error("the decision log in %s cannot be written: %s", self.folder, error)
            self._why = "the disk is full" if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT) else why
            self._release(LogFullError(f"the decision log cannot be written ({self._why})"))

    def _release(self, error: LogFullError | None) -> None:
        """Lets the answers go that waited for their line."""
        for future in self._waiting:
            if error is not None and self._policy == "refuse":
                future.set_exception(error)
            else:
                future.set_result(None)
        self._waiting.clear()

    def _rotate(self) -> None:
        new_day = today() != self._chain.day
        self._chain.rotate()
        self._unsynced.append(time.monotonic())
        self._chain.write()
        if new_day:
            self._expire()

    def _expire(self) -> None:
        for name in expire(self._chain, self._days):
            logger.info("%s is older than %d days, and was deleted", name, self._days)
        expire_others(self.folder, self._keys, self.writer, self._days)

    def _heads(self) -> dict[str, list[Any]]:
        """Returns the heads of all other chains: whoever removes one of them is found by this one."""
        heads = {}
        for writer in files_of(self.folder):
            head = read_head(head_file(self.folder, writer))
            if writer != self.writer and head is not None:
                heads[writer] = [head.sequence, head.hash]
        return heads
