"""What a worker does with memory that a batch has left: it keeps it for the next one."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Settings of glibc's ``mallopt``."""
_IN_ONE_PIECE = 32 << 20
"""Bytes from which an allocation is the system's own business; glibc takes no more."""
_KEPT = 256 << 20
"""Bytes of free memory that a worker holds on to."""


def keep_freed_memory() -> None:
    """Let this process use again what it has freed, as a process that has trained for a while does by itself.

    A fresh process hands the memory of every batch back to the system and asks for it again, page by page, which costs
    an attack of many short steps more than sharing it gains. Other allocators than glibc's are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _IN_ONE_PIECE)
    libc.mallopt(_TRIM_THRESHOLD, _KEPT)
