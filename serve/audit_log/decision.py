"""What the routes hand to the decision log: answered calls, and the status of refused ones."""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serve.audit_log.keys import Key

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""A request id that is logged: a plain word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One answered call. The log keeps keyed hashes of body and records, never these themselves."""

    model: str
    version: str
    artefact: str
    call: str
    body: bytes
    """As it was sent."""
    records: Any
    """(n, ...) array or tensor in the form that the model takes."""
    classes: Sequence[int] | np.ndarray
    """Predicted class of each record."""
    left: Sequence[bool | None] | None = None
    """Whether each record was left to the clinician, None for one of which that is not known; None for other calls."""
    status: int = 200
    request_id: str = ""
    token: str = ""
    """Name of the caller's token, never the token."""
    at: float = field(default_factory=time.time)

    @property
    def size(self) -> int:
        """Bytes that are held until the line is written."""
        return len(self.body) + int(self.records.nbytes)


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that was not answered; these are counted by their status."""

    status: int


Hook = Callable[[Decision | Refused], Future[None] | None]
"""Takes what the routes say. Where it returns something, the answer waits until that is done."""


class LogFullError(Exception):
    """The decision log cannot be written, and no answer is given without a line in it."""


def entry_of(decision: Decision, key: Key) -> dict[str, Any]:
    """Returns the line of an answered call.

    Args:
        decision: the call.
        key: of the hashes.

    Returns:
        JSON-able values without the data of the request.
    """
    entry: dict[str, Any] = {
        "event": "answer",
        "time": time_text(decision.at),
        "model": decision.model,
        "version": decision.version,
        "artefact": decision.artefact,
        "call": decision.call,
        "status": decision.status,
        "records": len(decision.records),
        "key": key.name,
        "body": key.body(decision.body),
        "inputs": [key.record(row) for row in rows_of(decision.records)],
        "classes": [int(k) for k in decision.classes],
    }
    if decision.left is not None:
        entry["left"] = [None if one is None else bool(one) for one in decision.left]
    if REQUEST_ID.fullmatch(decision.request_id):
        entry["request_id"] = decision.request_id
    if decision.token:
        entry["token"] = decision.token
    return entry


def rows_of(records: Any) -> list[bytes]:
    """Returns the bytes of each record: float32, or word numbers, little-endian.

    Args:
        records: (n, ...) array or tensor.
    """
    array = np.asarray(records.detach().cpu() if hasattr(records, "detach") else records)
    kind = "<f4" if array.dtype.kind == "f" else "<i8"
    rows = np.ascontiguousarray(array, kind).reshape(len(array), -1)
    return [row.tobytes() for row in rows]


def time_text(seconds: float) -> str:
    """Formats a time in UTC.

    Args:
        seconds: since 1970.
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
