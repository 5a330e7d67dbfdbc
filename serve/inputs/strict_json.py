"""Strict JSON: one meaning for every body, and limits on depth and strings.

RFC 8259 leaves open what a duplicate key or a lone surrogate means, so a server, its log and a firewall before it may
each read another request. Such bodies are refused. The checks look at the bytes between strings with a few passes of
compiled code; only objects are walked, so that arrays of numbers cost next to nothing.
"""

import gc
from itertools import chain
from typing import Any

import orjson

from serve.refusals import RefusedError

MOST_DEPTH = 16
"""Greatest number of arrays and objects inside each other."""
LONGEST_STRING = 1 << 16
"""Greatest length of a string in bytes, as it is written; images are longer, and readers of images allow more."""
LONGEST_ID = 128
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(set(range(256)) - set(b"[]{}:"))


def parse_json(body: bytes, *, most_depth: int = MOST_DEPTH, longest_string: int = LONGEST_STRING) -> Any:
    """Parses a body.

    Args:
        body: of the request.
        most_depth: greatest number of arrays and objects inside each other.
        longest_string: greatest length of a string in bytes, as it is written.

    Returns:
        Dictionaries, lists, texts, numbers, truth values and None.

    Raises:
        RefusedError: status 400. The body is not JSON in UTF-8, begins with a byte-order mark, holds NaN, infinity, a
            number beyond float64 or half of a surrogate pair, names a key twice, is nested too deeply, or holds a
            string that is too long.
    """
    try:
        tree = _loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            f"the body is not JSON in UTF-8 without a byte-order mark (at character {error.pos}); NaN, infinity, "
            f"numbers beyond 1.8e308, halves of surrogate pairs and more than {most_depth} levels are refused",
            status=400,
            reason="not_json",
        ) from None
    if not isinstance(tree, dict | list):
        return tree
    marks, strings = _apart(body)
    if max(map(len, strings), default=0) > longest_string:
        raise RefusedError(
            f"the body holds a string of more than {longest_string} bytes", status=400, reason="string_too_long"
        )
    if _deeper_than(marks, most_depth):
        raise RefusedError(
            f"the body is nested more than {most_depth} levels deep", status=400, reason="nested_too_deeply"
        )
    if _members(tree, objects=marks.count(b"{")) != marks.count(b":"):
        raise RefusedError("the body names a key twice in one object; name it once", status=400, reason="duplicate_key")
    return tree


def _loads(body: bytes) -> Any:
    """Parses JSON without looking for cyclic garbage meanwhile, of which it makes none.

    Python looks for it again and again while many lists are made, in all that the process holds: 200,000 short lists
    took 0.3 to 0.6 s in place of 0.03.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(body)
    finally:
        if enabled:
            gc.enable()


def check_id(given: Any) -> str:
    """Checks the identifier of a request, which answers and logs repeat.

    Args:
        given: as it was sent.

    Returns:
        The identifier.

    Raises:
        RefusedError: status 400. It is no text, too long, or holds control characters or marks of the direction of
            writing, which would change how a log is read.
    """
    if type(given) is not str or not 0 < len(given) <= LONGEST_ID or not given.isprintable():
        raise RefusedError(
            f"id must be a text of 1 to {LONGEST_ID} printable characters, without control characters and marks of "
            "writing direction",
            status=400,
            reason="invalid_id",
        )
    return given


def _apart(body: bytes) -> tuple[bytes, list[bytes]]:
    """Returns the brackets and colons of valid JSON outside its strings, and the strings as they are written."""
    if b"\\" in body:
        # In this order: a run of backslashes begins with the one that escapes the next.
        body = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    parts = body.split(b'"')
    return b"".join(parts[::2]).translate(None, _NO_MARKS), parts[1::2]


def _deeper_than(marks: bytes, most: int) -> bool:
    """Returns whether brackets are nested more than ``most`` levels deep: each pass removes the innermost level."""
    brackets = marks.translate(_TO_SQUARE, b":")
    for _ in range(most):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _members(tree: Any, *, objects: int) -> int:
    """Returns the number of members of all objects in a tree.

    Args:
        tree: parsed JSON.
        objects: number of objects as written. Once all are found, the rest holds none and is not looked at. Fewer may
            be found, for of two members with one key only the last is kept.
    """
    level, members = [tree], 0
    while level and objects:
        dicts = [one for one in level if type(one) is dict]
        objects -= len(dicts)
        members += sum(map(len, dicts))
        if not objects:
            break
        lists = [one for one in level if type(one) is list]
        level = list(chain(chain.from_iterable(one.values() for one in dicts), chain.from_iterable(lists)))
    return members
