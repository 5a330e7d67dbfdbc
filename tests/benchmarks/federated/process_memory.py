"""Peak memory of a program with all its children: the proportional set size, which counts shared pages once."""

import contextlib
import threading
from collections import defaultdict
from pathlib import Path


def descendants(root: int) -> list[int]:
    """Returns a process and all its children, and theirs, as far as they live.

    Args:
        root: ID of the first process.

    Returns:
        IDs, the first one included.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # The name, in parentheses, may contain spaces; the parent is the second field after it.
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(folder.name))
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children[process]
    return found


def proportional_bytes(process: int) -> int:
    """Returns the proportional set size of one process in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


class PeakMemory:
    """Samples the memory of a process and its children until the block ends.

    Args:
        root: ID of the process.
        every: seconds between samples.
    """

    def __init__(self, root: int, *, every: float = 0.25) -> None:
        self.peak = 0
        """Bytes, the greatest sum over the processes that a sample saw."""
        self._root, self._every = root, every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.is_set():
            self.peak = max(self.peak, sum(map(proportional_bytes, descendants(self._root))))
            self._ended.wait(self._every)
