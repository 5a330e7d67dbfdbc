"""Servers in processes of their own: started with the same priority, measured with all their children, and ended."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_START = 300
"""Seconds that a server may take to start."""


class Server:
    """A running server.

    Args:
        process: its first process.
        port: of the service.
    """

    token = ""
    """That it printed, with which everything may be called."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process, self.port = process, port

    def all(self) -> list[int]:
        """Returns the numbers of all its processes."""
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
        found: list[int] = []
        waiting = [self._process.pid]
        while waiting:
            found.append(waiting.pop())
            waiting += children.get(found[-1], [])
        return found

    def cpu_seconds(self) -> float:
        """Returns the processor time of all its processes that run."""
        total = 0
        for one in self.all():
            with suppress(OSError):
                fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, Any]:
        """Returns megabytes of all its processes: resident, and with shared pages counted once."""
        rss = pss = count = 0
        for one in self.all():
            with suppress(OSError):
                text = Path(f"/proc/{one}/smaps_rollup").read_text()
                rss += int(re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
                pss += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
                count += 1
        return {"processes": count, "rss_mb": rss // 1024, "pss_mb": pss // 1024}

    def resident(self) -> dict[tuple[int, str], float]:
        """Returns the resident megabytes of each process, by its number and title."""
        found = {}
        for one in self.all():
            with suppress(OSError):
                pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
                title = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found[one, title] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return found

    def niceness(self) -> list[int]:
        """Returns the priorities of its processes, each once."""
        found = set()
        for one in self.all():
            with suppress(OSError):
                found.add(os.getpriority(os.PRIO_PROCESS, one))
        return sorted(found)

    def end(self) -> None:
        """Ends it with all its children."""
        left = self.all()
        self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for one in left:
            with suppress(OSError):
                os.kill(one, signal.SIGKILL)
        self._process.wait(10)


@contextmanager
def running(arguments: list[str], port: int, ready: str) -> Iterator[Server]:
    """Runs a server as a module of Python, with one torch thread.

    Args:
        arguments: after ``python -m``.
        port: of the service.
        ready: text that it prints, or path that answers, once it is ready.

    Yields:
        The server.
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A parent that ignores this signal, as a shell's job in the background, hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        server = Server(process, port)
        try:
            line = _wait(process, ready)
            server.token = next(iter(re.findall(r"token=(\S+)", line)), "")
            yield server
        finally:
            server.end()


def _wait(process: "subprocess.Popen[str]", ready: str) -> str:
    """Returns the line by which a server says that it is ready."""
    assert process.stdout is not None
    said, until = [], time.monotonic() + _START
    for line in process.stdout:
        said.append(line)
        if ready in line:
            return line
        if time.monotonic() > until:
            break
    raise RuntimeError(f"the server did not start; it said: {''.join(said[-20:])}")
