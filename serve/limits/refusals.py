"""Errors in the form that every call uses: ``{"error": …}``, short, and without anything that the caller sent.

Imports nothing but the standard library: the wrapper of HAProxy writes the same texts into its error files.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MOST_BYTES = 4096
"""Greatest length of an error's body."""
MOST_FAULTS = 10
"""Greatest number of faults of one request that an error names."""
RETRIED = (429, 503)
"""Statuses after which a caller may send the same request again, with the header Retry-After."""

TEXTS = {
    400: "the request is malformed",
    401: "a token is required: send it as Authorization: Bearer TOKEN",
    403: "this call is not allowed",
    404: "there is nothing at this path",
    405: "this method is not allowed here",
    408: "the request did not arrive, or could not be answered, in time",
    411: "the request must give its length",
    413: "the body is too long",
    415: "this content type or encoding of the body is not supported",
    422: "the request cannot be answered",
    425: "the request came too early",
    429: "too many requests; try again later",
    431: "the headers are too long",
    500: "the server failed on this call; its log says where",
    501: "this is not supported",
    502: "the model did not answer; try again later",
    503: "all replicas are busy, or none is up; try again later",
    504: "the model did not answer in time",
}
"""What each status means here; used where nothing more exact is known."""


def error_body(message: str, reason: str = "") -> bytes:
    """Returns the body of an error.

    Args:
        message: what is wrong and what is allowed; must not repeat what the caller sent.
        reason: code for programs; left out where it is empty.

    Returns:
        JSON of at most ``MOST_BYTES`` bytes; a longer message is cut.
    """
    code = {"reason": reason} if reason else {}
    room, kept = MOST_BYTES - len(json.dumps({"error": " …", **code})), len(message)
    if len(json.dumps(message)) <= room:
        return json.dumps({"error": message, **code}).encode()
    while len(json.dumps(message[:kept])) > room:
        kept = kept * 3 // 4
    return json.dumps({"error": message[:kept] + " …", **code}).encode()


def error_headers(status: int, length: int, *, retry_after: int = 1) -> list[tuple[bytes, bytes]]:
    """Returns the headers of an error.

    Args:
        status: HTTP status.
        length: length of the body in bytes.
        retry_after: seconds after which a caller may try again; sent where that helps.

    Returns:
        Names and values, as ASGI has them.
    """
    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    if status in RETRIED:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 405:
        # Of the whole service; what knows the path says it better.
        headers.append((b"allow", b"GET, HEAD, POST"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def text_of(status: int) -> str:
    """Returns the text of a status.

    Args:
        status: HTTP status of at least 400.

    Returns:
        What it means here.
    """
    return TEXTS.get(status) or TEXTS[400 if status < 500 else 500]


def describe_faults(details: Sequence[Mapping[str, Any]], known: set[str]) -> str:
    """Describes what a request did wrong, from the errors of pydantic.

    Args:
        details: errors, each with ``loc``, ``type`` and ``msg``.
        known: names of fields that may be named; other keys are the caller's own text.

    Returns:
        Place and reason of the first faults, each once, and how many more there are.
    """
    told: dict[str, None] = {}
    for number, detail in enumerate(details):
        if len(told) == MOST_FAULTS:
            return f"{'; '.join(told)}; and {len(details) - number} more"
        told[_fault(detail, known)] = None
    return "; ".join(told)


def _fault(detail: Mapping[str, Any], known: set[str]) -> str:
    where = ".".join(str(part) for part in detail["loc"] if isinstance(part, int) or part in known) or "the body"
    if detail["type"] == "extra_forbidden":
        return f"{where} holds a key that is not allowed"
    return f"{where}: {str(detail['msg'])[:200]}"
