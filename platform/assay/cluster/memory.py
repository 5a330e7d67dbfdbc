"""Memory settings of worker processes: freed memory is kept for the next batch."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Settings of glibc's ``mallopt``."""
_IN_ONE_PIECE = 32 << 20
"""Bytes from which an allocation is a memory mapping of its own; the maximum of glibc."""
_KEPT = 256 << 20
"""Bytes of free memory that a worker keeps."""


def keep_freed_memory() -> None:
    """Makes this process reuse freed memory instead of returning it to the system.

    A new process returns the memory of every batch to the system and requests it again, page by page. For an attack
    with
    many short steps this costs more time than a second worker gains. Allocators other than that of glibc are not
    changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _IN_ONE_PIECE)
    libc.mallopt(_TRIM_THRESHOLD, _KEPT)
