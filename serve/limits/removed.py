"""Headers that callers may not send: HAProxy and the Python proxy remove the same.

Imports nothing but the standard library.
"""

import re
from functools import lru_cache

PROXY_HEADER = "X-Assay-Proxy"
"""Header by which a replica knows that a call came through HAProxy."""
CALL_HEADER = "X-Assay-Call"
"""Header with a word that HAProxy makes for each call: the same where it sends the call to a second replica."""
NAMES = (
    # Only HAProxy says who calls, and by which way.
    *("Forwarded", "X-Forwarded", "X-Real-IP", "Upgrade", PROXY_HEADER),
    # Ray Serve obeys these: they switch off its time limit, hold calls of gone callers, or choose the replica.
    *("X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled", "X-Session-Id", "Serve-Multiplexed-Model-Id"),
)
"""Names of headers that callers may not send."""
BEGINNINGS = ("X-Forwarded-", "X-Assay-", "X-Serve-")
"""Beginnings of the names of further headers that callers may not send."""

_NAMES = frozenset(name.lower().encode() for name in NAMES)
_BEGINNINGS = tuple(name.lower().encode() for name in BEGINNINGS)
_PLAIN_NAME = re.compile(rb"[a-z0-9-]+")


@lru_cache(maxsize=1024)
def is_removed(name: bytes) -> bool:
    """Returns whether callers may not send a header.

    Args:
        name: in lower case.

    Returns:
        True also for names that servers read differently, as those with an underscore.
    """
    return name in _NAMES or name.startswith(_BEGINNINGS) or not _PLAIN_NAME.fullmatch(name)
