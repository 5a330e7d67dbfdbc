"""Mutations of requests with a binary tensor: the JSON, its length, shape, datatype, sizes, and the bytes."""

import json
import random
from dataclasses import replace
from typing import Any

from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.mutated_heads import BINARY
from tests.benchmarks.serving.mutated_json import cut, extended, flipped, mutated_json

_NUMBERS = (
    b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\1\0\0\0", b"\0\0\0\x80", b"\xff\xff\x7f\x7f",
)  # fmt: skip
"""NaN, infinity, the least and the greatest numbers, and -0; or lengths of texts."""
_TYPES = ("FP64", "FP32", "BYTES", "FP16", "BF16", "INT8", "BOOL", "", "fp32")


def mutated_tensor(call: Call, draw: random.Random) -> tuple[str, Call]:
    """Changes a request with a binary tensor.

    Args:
        call: with the header ``BINARY``.
        draw: where chance comes from.

    Returns:
        Name of the mutation, and the request.
    """
    length = int(call.header(BINARY))
    head, rest = call.body[:length], call.body[length:]
    kind = draw.randrange(6)
    if kind == 0:
        name, head = mutated_json(head, draw)
        return f"binary {name}", _joined(call, head, rest)
    if kind == 1:
        wrong = draw.choice((0, 1, length - 1, length + 1, len(call.body), len(call.body) + 1, -1, 2**31, 10**30))
        return "binary: length of the JSON", call.without(BINARY).with_header(BINARY, str(wrong))
    if kind == 2:
        return "binary: bytes", _joined(call, head, _other_bytes(rest, draw))
    if kind == 3:
        at = 4 * draw.randrange(max(1, len(rest) // 4))
        return "binary: a number", _joined(call, head, rest[:at] + draw.choice(_NUMBERS) + rest[at + 4 :])
    asked = json.loads(head)
    (tensor,) = asked["inputs"]
    if kind == 4:
        tensor["shape"] = draw.choice(_shapes(tensor["shape"]))
        return "binary: shape", _joined(call, json.dumps(asked).encode(), rest)
    tensor["datatype"] = draw.choice(_TYPES)
    sizes = (len(rest), len(rest), 0, -1, len(rest) + 1, 2**63, 10**30, 1.5, "4", True, None)
    tensor["parameters"]["binary_data_size"] = draw.choice(sizes)
    return "binary: datatype and size", _joined(call, json.dumps(asked).encode(), rest)


def _joined(call: Call, head: bytes, rest: bytes) -> Call:
    return replace(call.without(BINARY), body=head + rest).with_header(BINARY, str(len(head)))


def _other_bytes(raw: bytes, draw: random.Random) -> bytes:
    return draw.choice((cut(raw, draw), extended(raw, draw), flipped(raw, draw), raw[::-1], raw + raw, b""))


def _shapes(shape: list[Any]) -> list[list[Any]]:
    rest = shape[1:]
    return [
        [], [0], [-1], [0, *rest], [-1, *rest], [2**63, *rest], [2**31, 2**31], [2**64], [1, *shape], shape[::-1],
        [one + 1 for one in shape], shape[:-1], [257, *rest], [1.0, *rest], [True, *rest], ["1", *rest], [1] * 9,
    ]  # fmt: skip
