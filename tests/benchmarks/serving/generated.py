"""Bodies that follow no rule."""

import random
from collections.abc import Callable

from tests.benchmarks.serving.mutated_json import FRAGMENTS, generated_json

_TENSOR = b'{"inputs": [{"name": "records", "shape": [1, 30], "datatype": "FP32", "data": %s}]}'
_LENGTHS = (400_000, 900_000)
"""Bytes of long bodies, below the greatest length of a body."""
SHARE_OF_LONG = 0.003
"""Share of bodies that are long."""
Body = Callable[[random.Random], bytes]


def generated_body(draw: random.Random) -> tuple[str, bytes]:
    """Returns a body that follows no rule.

    Args:
        draw: where chance comes from.

    Returns:
        Its kind, and its bytes.
    """
    if draw.random() < SHARE_OF_LONG:
        name, start, part, end = draw.choice(_LONG)
        return f"long: {name}", start + part * (draw.choice(_LENGTHS) // len(part)) + end
    kind, body = draw.choice(_BODIES)
    return kind, body(draw)


def _brackets(draw: random.Random) -> bytes:
    return draw.choice((b"[", b'{"a":', b"[[],", b'[{"":')) * draw.choice((10, 1000, 20_000))


_BODIES: tuple[tuple[str, Body], ...] = (
    ("json", generated_json),
    ("json", generated_json),
    ("json", generated_json),
    ("fragment", lambda draw: draw.choice(FRAGMENTS).encode()),
    ("instances", lambda draw: b'{"instances": %s}' % generated_json(draw, 2)),
    ("inputs", lambda draw: _TENSOR % generated_json(draw, 2)),
    ("bytes", lambda draw: draw.randbytes(draw.randrange(400))),
    ("brackets", _brackets),
    ("nothing", lambda _: b""),
)
_LONG: tuple[tuple[str, bytes, bytes, bytes], ...] = (
    ("objects", b'{"inputs":[],"outputs":[{}', b",{}", b"]}"),
    ("shape", b'{"inputs":[{"shape":[0', b",0", b"]}]}"),
    ("texts", b'{"instances":["a"', b',"a"', b"]}"),
    ("records", b'{"instances":[[0]', b",[0]", b"]}"),
    ("one text", b'{"instances":["', b"A", b'"]}'),
    ("image", b'{"instances":[{"png":"', b"A", b'"}]}'),
    ("keys", b'{"about":{"a":0', b',"a":0', b"}}"),
    ("other keys", b'{"instances":[{"a":0}', b',{"b":0}', b"]}"),
    ("numbers", b'{"instances":[[0', b",0.1", b"]]}"),
    ("escapes", b'{"instances":["', rb"\\", b'"]}'),
    ("digits", b'{"instances":[[', b"1", b"]]}"),
)
"""Name, beginning, what is repeated, and end."""
