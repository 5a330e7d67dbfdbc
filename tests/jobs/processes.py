"""Jobs as a user starts them, and the processes they leave or do not leave behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """How a job ended."""

    code: int
    said: str
    """All that it printed, on both streams, as it stands."""

    @property
    def words(self) -> str:
        """The same on one line: a terminal folds."""
        return " ".join(self.said.split())


class Job:
    """A job in a process of its own; everything it starts carries a mark in its environment."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"ASSAY_TEST_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        environment = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**environment, name: value, "PYTHONFAULTHANDLER": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, timeout: float = 240) -> tuple[int, str]:
        """Exit code and everything it printed; where every thread stood, if it did not end in time."""
        try:
            said, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            said, _ = self.process.communicate(timeout=60)
            raise AssertionError(f"{self.process.args} did not end within {timeout:g} s; it said:\n{said}") from None
        return self.process.returncode, said

    def kill(self) -> None:
        """SIGKILL to the job itself, not to what it started."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)

    def family(self) -> list[int]:
        """Every live process that the job started, itself included."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._marked(entry)]

    def until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Poll until the condition holds; a job that ends before it, or never gets there, shows what it said."""
        try:
            wait_for(lambda: condition() or self.process.poll() is not None, seconds=seconds, what=what)
            if condition():
                return
            why = f"the job ended with {self.process.returncode} before {what}"
        except AssertionError as error:
            why = str(error)
            self.process.send_signal(signal.SIGABRT)  # it prints where every thread stands
        # What the job started may hold its end of the pipe.
        self.clean_up()
        said, _ = self.process.communicate(timeout=60)
        raise AssertionError(f"{why}; it said:\n{said}") from None

    def clean_up(self) -> None:
        """Nothing of the job outlives its test."""
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)

    def _marked(self, entry: Path) -> bool:
        try:
            return self.mark.encode() in (entry / "environ").read_bytes()
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.05)


def command_line(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def maps_torch(pid: int) -> bool:
    """Whether a process has imported torch."""
    try:
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
