"""Lines of the decision log: one JSON object each, which holds the hash of the line before it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIRST = "0" * 64
"""Stands in the first line of a chain for the hash of the line before it."""


def encode(entry: Mapping[str, Any]) -> bytes:
    """Returns an entry as a line, without its end.

    Args:
        entry: JSON-able values.

    Returns:
        ASCII.
    """
    return json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()


def hash_of(line: bytes) -> str:
    """Returns the SHA-256 of a line, without its end.

    Args:
        line: of a log.

    Returns:
        Hexadecimal.
    """
    return hashlib.sha256(line).hexdigest()


def decode(line: bytes) -> dict[str, Any] | None:
    """Reads a line.

    Args:
        line: without its end.

    Returns:
        The entry; None where it is none: it was changed, or cut.
    """
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or type(entry.get("sequence")) is not int:
        return None
    return entry if isinstance(entry.get("previous"), str) and isinstance(entry.get("event"), str) else None
