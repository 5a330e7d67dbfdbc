"""Calls of an ASGI application with whatever headers, path and body a request has; no client corrects them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp

from tests.benchmarks.serving.call import Call


@dataclass(frozen=True)
class Reply:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


async def answer_to(app: ASGIApp, call: Call) -> Reply:
    """Calls an application as a server on this machine would."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": call.body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    began = time.perf_counter()
    try:
        await app(_scope(call), receive, send)
    except Exception:  # a server would answer 500; Starlette has sent its own before it raises
        if not sent:
            raise
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent[0].get("headers", ())}
    body = b"".join(one.get("body", b"") for one in sent[1:])
    return Reply(sent[0]["status"], headers, body, time.perf_counter() - began)


def _scope(call: Call) -> dict[str, Any]:
    path, _, query = call.path.partition("?")
    given = [] if call.header("host") else [("host", "localhost:8000")]
    given += [*call.headers]
    if call.body and not call.header("content-length"):
        given.append(("content-length", str(len(call.body))))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": call.method.upper(),
        "scheme": "http",
        "path": unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": _headers(given),
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def _headers(given: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.strip(" \t").encode("latin-1", "replace")) for name, value in given]
