"""Mutations of requests below the rules of HTTP."""

import random
from collections.abc import Callable

from tests.benchmarks.serving.mutated_json import flipped

END = b"\r\n\r\n"
_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
_CODINGS = (b"gzip", b"chunked, chunked", b"x\x0bchunked", b"identity")
_LENGTHS = (b"-1", b"x", b"1e3", b"9" * 20, b"+1", b"0x1", b"")
_LINE_ENDS = (b"\n", b"\r", b"\n\n", b"\r\r\n")
Change = Callable[[bytes, bytes, random.Random], bytes]
"""Of head, body and chance to the bytes that are sent."""


def damaged(raw: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Changes the bytes of a request.

    Args:
        raw: the bytes of a request.
        draw: where chance comes from.

    Returns:
        Name of the mutation, and the bytes.
    """
    head, _, body = raw.partition(END)
    name, change = draw.choice(_CHANGES)
    return f"wire: {name}", change(head, body, draw)


def _first_line(head: bytes, body: bytes, draw: random.Random) -> bytes:
    first, _, others = head.partition(b"\r\n")
    start = first.removesuffix(b"HTTP/1.1")
    lines = (
        b"", b"GET", b"GET  / HTTP/1.1", start + b"HTTP/9.9", start + b"HTTP/1.0", start, first * 300,
        b"\x16\x03\x01\x02\0", b"PRI * HTTP/2.0",
    )  # fmt: skip
    return draw.choice(lines) + b"\r\n" + others + END + body


def _chunks(head: bytes, body: bytes, draw: random.Random) -> bytes:
    right = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    extended = b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(body), b"a" * 9000, body)
    wrong = (right, right, extended, b"zz\r\n", b"-1\r\n", b"f" * 18 + b"\r\n", b"1\r\n" * 50, right[:-3])
    return _without_length(head) + _CHUNKED + draw.choice(wrong)


def _odd_length(head: bytes, body: bytes, draw: random.Random) -> bytes:
    return _without_length(head) + b"\r\nContent-Length: " + draw.choice(_LENGTHS) + END + body


def _coding(head: bytes, body: bytes, draw: random.Random) -> bytes:
    return head + b"\r\nTransfer-Encoding: " + draw.choice(_CODINGS) + END + body


def _upgrade(head: bytes, body: bytes, draw: random.Random) -> bytes:
    wanted = draw.choice((b"h2c", b"websocket"))
    lines = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\nUpgrade: " + wanted
    return head + lines + END + body


def _cut(head: bytes, body: bytes, draw: random.Random) -> bytes:
    raw = head + END + body
    return raw[: draw.randrange(1, len(raw))]


def _without_length(head: bytes) -> bytes:
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length"))


def _with_line(line: bytes) -> Change:
    return lambda head, body, _: head + b"\r\n" + line + END + body


_CHANGES: tuple[tuple[str, Change], ...] = (
    ("bits of the head", lambda head, body, draw: flipped(head, draw) + END + body),
    ("cut", _cut),
    ("line ends", lambda head, body, draw: (head + END + body).replace(b"\r\n", draw.choice(_LINE_ENDS))),
    ("first line", _first_line),
    ("two lengths", _with_line(b"Content-Length: 0")),
    ("length and chunks", lambda head, _, __: head + _CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"),
    ("chunks", _chunks),
    ("odd length", _odd_length),
    ("coding", _coding),
    ("folded header", _with_line(b"X-A: a\r\n b")),
    ("header without a name", _with_line(b": a\r\nno colon")),
    ("zero byte", _with_line(b"X-A: a\0b")),
    ("expect", _with_line(b"Expect: 100-continue")),
    ("upgrade", _upgrade),
    ("noise", lambda _, __, draw: draw.randbytes(draw.randint(1, 400))),
)
