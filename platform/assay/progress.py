"""Progress of long steps, reported every few seconds to a listener of this process.

A step sets its name with ``step`` and reports its progress with ``tell``; neither needs to know the listener. Within
``listening``, a thread reports the innermost open step every ``EVERY`` seconds, even if the step reports nothing.

    with listening(print), step("trial 3"), step("robustness"):
        tell(7, 20)  # after ten seconds: "trial 3: robustness, 35 %, 10 s"
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

EVERY = 10.0
"""Seconds between two lines of one step."""
Listener = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The innermost step that is open."""

    names: tuple[str, ...]
    began: float
    share: float | None = None

    def __str__(self) -> str:
        outer, *inner = self.names
        about = [*inner, *([] if self.share is None else [f"{self.share:.0%}".replace("%", " %")])]
        return f"{outer}: {', '.join([*about, f'{time.monotonic() - self.began:.0f} s'])}"


class _State:
    """State of this process. The open step is replaced as a whole, so that another thread may read it at any time."""

    step: _Step | None = None
    listener: Listener | None = None


@contextmanager
def step(name: str) -> Iterator[None]:
    """Opens a step for the block, below the steps that are open.

    Args:
        name: shown in reports.

    Returns:
        Context manager.
    """
    outer = _State.step
    _State.step = _Step(names=(*(outer.names if outer else ()), name), began=time.monotonic())
    try:
        yield
    finally:
        _State.step = outer


def tell(done: int, total: int) -> None:
    """Reports the progress of the open step.

    Args:
        done: items that are finished.
        total: all items; 0 if unknown, and then nothing is reported.
    """
    if _State.step is not None and total > 0:
        _State.step = replace(_State.step, share=done / total)


def wanted() -> bool:
    """Returns whether this process has a listener.

    Returns:
        True if it has.
    """
    return _State.listener is not None


def relay(said: str) -> None:
    """Passes a report of another process to the listener of this one.

    Args:
        said: the line of the report.
    """
    if _State.listener is not None:
        _State.listener(said)


@contextmanager
def listening(listener: Listener, *, every: float = EVERY) -> Iterator[None]:
    """Reports the open step to a listener every few seconds, from a thread, while the block runs.

    Args:
        listener: called with one line; not called while no step is open.
        every: seconds between two reports.

    Returns:
        Context manager.
    """
    before, over = _State.listener, threading.Event()
    _State.listener = listener

    def watch() -> None:
        while not over.wait(every):
            if (open_step := _State.step) is not None:
                listener(str(open_step))

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _State.listener = before
