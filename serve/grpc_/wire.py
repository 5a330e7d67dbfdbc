"""Looks at a request before it is parsed: of a short message with many small parts, parsing makes 100 times as much."""

from collections.abc import Iterator

from serve.inputs.read import MOST_RECORDS
from serve.refusals import RefusedError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MOST_FIELDS = 64
"""Greatest number of fields of a message that holds no records."""
_LONGEST_SHAPE = 128
"""Greatest length in bytes of a shape."""
_INPUTS, _OUTPUTS = 5, 6
_SHAPE, _CONTENTS = 3, 5
_READ = {6, 7, 8}
"""Numbers of the contents that are read: fp32, fp64, bytes."""


def check_parts(body: bytes) -> None:
    """Checks that a request for inference has few parts.

    Args:
        body: ``ModelInferRequest``, not yet parsed.

    Raises:
        RefusedError: status 400. It has too many, or is no message.
    """
    for number, part in _fields(memoryview(body), _MOST_FIELDS):
        if number == _OUTPUTS:
            _count(part)
        if number != _INPUTS:
            continue
        for inner, piece in _fields(part, _MOST_FIELDS):
            if inner == _SHAPE and len(piece) > _LONGEST_SHAPE:
                raise _malformed("the shape of a tensor is too long")
            if inner == _CONTENTS:
                numbers = {one for one, _ in _fields(piece, MOST_RECORDS)}
                if not numbers <= _READ:
                    raise _malformed("contents are sent as fp32_contents, fp64_contents or bytes_contents")


def _count(part: memoryview) -> None:
    for _ in _fields(part, _MOST_FIELDS):
        pass


def _fields(raw: memoryview, most: int) -> Iterator[tuple[int, memoryview]]:
    """Yields number and content of each field, empty for a number that is no message."""
    place = count = 0
    while place < len(raw):
        count += 1
        if count > most:
            raise _malformed(f"the request has more than {most} parts of one kind; numbers are sent packed")
        tag, place = _varint(raw, place)
        kind, length = tag & 7, 0
        if kind == _VARINT:
            _, place = _varint(raw, place)
        elif kind == _LENGTH:
            length, place = _varint(raw, place)
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            raise _malformed("the request is no message of the protocol")
        if place + length > len(raw):
            raise _malformed("the request is no message of the protocol")
        yield tag >> 3, raw[place : place + length]
        place += length


def _varint(raw: memoryview, place: int) -> tuple[int, int]:
    """Returns a number of variable length, and the place after it."""
    value = 0
    for shift, byte in enumerate(raw[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise _malformed("the request is no message of the protocol")


def _malformed(why: str) -> RefusedError:
    return RefusedError(why, status=400, reason="malformed_message")
