"""Sends columns to the page as bytes that a browser maps to typed arrays: no text for each trial.

Little-endian: uint32 with the length of the header, the header as JSON, zeros up to a multiple of 8, the numbers of the
rows as uint32, then each column, float32 (NaN for none) or uint16 (65535 for none); each array padded to 8 bytes.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.dashboard.table import Described, Trials

NONE = 0xFFFF


@dataclass(frozen=True)
class Held:
    """State of the table that a page already has; empty at its first request."""

    epoch: str = ""
    schema: int = -1
    version: int = 0


def block(trials: Trials, held: Held = Held()) -> bytes:
    """Returns the rows that a page lacks: all of them where the table or its columns are others than those it holds.

    Args:
        trials: the table.
        held: what the page holds.

    Returns:
        The bytes.
    """
    with trials.lock:  # columns may be added at any time before it is taken: what the page holds is judged under it
        known = (held.epoch, held.schema) == (trials.epoch, trials.schema)
        rows = trials.since(held.version if known else 0)
        every = rows if len(rows) < trials.count else slice(None)
        sent = [one for one in trials.served() if not one.crowded]
        parts = [rows.astype(np.uint32), *(_array(one, every, trials.count) for one in sent)]
        header = {
            "epoch": trials.epoch,
            "version": trials.version,
            "schema": trials.schema,
            "total": trials.count,
            "count": len(rows),
            "columns": [_about(one) for one in sent],
            "crowded": [one.key for one in trials.served() if one.crowded],
            "constants": {key: _plain(value) for key, value in trials.constants().items()},
        }
    text = json.dumps(header).encode()
    pieces = [np.uint32(len(text)).tobytes(), text, bytes(-(4 + len(text)) % 8)]
    for part in parts:
        pieces += [part.tobytes(), bytes(-part.nbytes % 8)]
    return b"".join(pieces)


def _array(one: Described, rows: Any, count: int) -> np.ndarray:
    values = one.column.read(rows, count)
    if one.column.kind == "number":
        return values.astype(np.float32)
    return np.where(values < 0, NONE, values).astype(np.uint16)


def _about(one: Described) -> dict[str, Any]:
    return {
        "key": one.key,
        "title": one.title,
        "group": one.group,
        "unit": one.unit,
        "better": one.better,
        "meaning": one.meaning,
        "kind": one.column.kind,
        "names": one.column.names,
    }


def _plain(value: Any) -> Any:
    """Returns a value as JSON can hold it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
