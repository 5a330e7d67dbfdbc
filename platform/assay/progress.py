"""What a long step is doing, told every few seconds to whoever listens in this process.

A step says its name with ``step``, and how far it has come with ``tell``; neither needs to know who listens. While
``listening`` is open, a thread tells the listener of the innermost step every ``EVERY`` seconds, however silent it is.

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
    """Of this process: the open step, replaced as a whole, so that another thread may read it at any moment."""

    step: _Step | None = None
    listener: Listener | None = None


@contextmanager
def step(name: str) -> Iterator[None]:
    """Everything within is a step of this name, below those that are open."""
    outer = _State.step
    _State.step = _Step(names=(*(outer.names if outer else ()), name), began=time.monotonic())
    try:
        yield
    finally:
        _State.step = outer


def tell(done: int, total: int) -> None:
    """So much of the open step is done."""
    if _State.step is not None and total > 0:
        _State.step = replace(_State.step, share=done / total)


def wanted() -> bool:
    """Whether anybody listens in this process."""
    return _State.listener is not None


def relay(said: str) -> None:
    """Hand on what another process said to the listener of this one."""
    if _State.listener is not None:
        _State.listener(said)


@contextmanager
def listening(listener: Listener, *, every: float = EVERY) -> Iterator[None]:
    """While the block runs, tell the listener every few seconds, in a thread, which step is open; not if none is."""
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
