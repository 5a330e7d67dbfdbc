"""Admits calls by their headers, in the processes that take calls: Ray's Python proxy, and each replica behind HAProxy.

The layers, from the network inwards (``serve.auth.layers`` puts them together): ``Admission`` judges the request and
gives errors one form, then come tokens (``serve.auth.middleware``), then ``Bodies`` reads the body.
"""

import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.limits import hosts
from serve.limits.error_form import Answer, refuse
from serve.limits.refusals import text_of
from serve.limits.removed import CALL_HEADER, PROXY_HEADER, is_removed
from serve.limits.settings import SECRET, Limits

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/-/healthz")
"""Paths that every caller may read, without a token: they tell nothing but health."""
BEHIND_PROXY = "assay.behind_proxy"
"""Key of a scope: whether the call came through HAProxy, which has applied the limits already."""
CALL = "assay.call"
"""Key of a scope: the word that HAProxy made for the call, the same for both replicas that it sends a call to; empty
for calls that came another way."""
PASSED = b"x-assay-passed"
"""Header by which a replica knows that the process that took the call has applied all limits."""

_PROXY_HEADER = PROXY_HEADER.lower().encode()
_CALL_HEADER = CALL_HEADER.lower().encode()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LONGEST_REQUEST_ID = 128
"""Greatest length of a request id; a longer one is refused."""


def holds(headers: hosts.Headers, name: bytes, secret: bytes) -> bool:
    """Returns whether a header holds the secret of the proxy.

    Args:
        headers: of a call.
        name: of the header, in lower case.
        secret: empty, it is held by no call.

    Returns:
        False also for two such headers.
    """
    given = [value for key, value in headers if key == name]
    return bool(secret) and len(given) == 1 and hmac.compare_digest(given[0], secret)


class Admission:
    """Middleware that admits requests by their headers, and gives every error one form.

    Args:
        app: the application behind it.
        limits: settings; by default those of the environment.
        secret: that HAProxy sends, and that marks calls which have passed here; by default that of the environment.
        behind_haproxy: whether calls must come through HAProxy; by default as Ray Serve is set.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits | None = None,
        secret: str | None = None,
        behind_haproxy: bool | None = None,
    ) -> None:
        self._app = app
        self._limits = limits or Limits.from_environment()
        self._secret = (os.environ.get(SECRET, "") if secret is None else secret).encode()
        set_so = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        self._behind_haproxy = set_so if behind_haproxy is None else behind_haproxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            answer = Answer(send, self._limits.retry_after)
            await self._answer(scope, receive, answer)

    async def _answer(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        refusal = self._judge(scope)
        if refusal is not None:
            await refuse(answer.send, refusal.status, refusal.message, retry_after=self._limits.retry_after)
            return
        if scope["path"] == "/v2/health/live" and scope["method"] in ("GET", "HEAD"):
            await _say_live(answer.send)
            return
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            # Its message may hold what the caller sent; Serve has logged it where it arose.
            logger.error("a call failed in the proxy")
            status = 500
        else:
            status = 503  # Serve sends nothing where a replica has died.
        if not answer.started:
            await refuse(answer.send, status, retry_after=self._limits.retry_after)

    def _judge(self, scope: Scope) -> hosts.Refusal | None:
        """Judges a request, and leaves in its headers and its client only what is true."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        came_through = self._behind_haproxy and holds(headers, _PROXY_HEADER, self._secret)
        path, is_open = scope["path"], scope["path"] in OPEN_PATHS
        scope[BEHIND_PROXY] = came_through
        scope[CALL] = "".join(hosts.values(headers, _CALL_HEADER)) if came_through else ""
        client = _client(scope, headers, came_through)
        if not came_through:
            if self._behind_haproxy and not is_open:
                return hosts.Refusal(403, "this port is for the proxy only; call the address of the service")
            if malformed := self._malformed(scope, headers):
                return malformed
            if path.startswith("/models/") or (path.startswith("/-/") and not is_open):
                return hosts.Refusal(404, text_of(404))
        scope["client"] = (client, 1) if client else None
        if came_through and hosts.values(headers, b"x-forwarded-proto") == ["https"]:
            scope["scheme"] = "https"
        told = hosts.judge(
            headers, method=scope["method"], scheme=scope.get("scheme", "http"), client=client, limits=self._limits
        )
        scope["headers"] = [*_true_headers(headers), *([(PASSED, self._secret)] if self._secret else [])]
        # Probes of a cluster come from another machine, and know no name of the service.
        return None if is_open else told

    def _malformed(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> hosts.Refusal | None:
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return hosts.Refusal(405, text_of(405))
        if len(headers) > self._limits.headers or _size(headers) > self._limits.header_bytes:
            return hosts.Refusal(431, text_of(431))
        names = [name for name, _ in headers]
        both = b"content-length" in names and b"transfer-encoding" in names
        if both or names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
            return hosts.Refusal(400, "the request gives its length in two ways")
        if any(name == b"x-request-id" and len(value) > _LONGEST_REQUEST_ID for name, value in headers):
            return hosts.Refusal(400, f"a request id has at most {_LONGEST_REQUEST_ID} characters")
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
            return hosts.Refusal(415, text_of(415))
        return None


async def _say_live(send: Send) -> None:
    body = b'{"live": true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _client(scope: MutableMapping[str, Any], headers: hosts.Headers, came_through: bool) -> str | None:
    """Returns the address of the caller; None where that is only what somebody says."""
    if came_through:
        return (hosts.values(headers, b"x-forwarded-for") or [""])[-1] or None
    client = scope.get("client")
    # uvicorn believes X-Forwarded-For from some addresses, and then gives port 0, which no connection has.
    return str(client[0]) if client and client[1] != 0 else None


def _true_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Removes headers that callers may not send; a request id that is no plain word is replaced."""
    kept = [(name, value) for name, value in headers if not is_removed(name) and name != b"x-request-id"]
    ids = [value for name, value in headers if name == b"x-request-id"]
    plain = len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0])
    return [*kept, (b"x-request-id", ids[0] if plain else secrets.token_hex(16).encode())]


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
