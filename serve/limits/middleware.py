"""Limits in the processes that take calls: Ray's Python proxy, and each replica behind HAProxy.

Ray calls ``serve.auth.middleware.middlewares`` (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``) in both. The layers,
from the network inwards: ``Front`` judges the request and gives errors one form, then come tokens (``serve.auth``),
then ``Bodies`` reads the body, before the call takes a place in a queue.
"""

import asyncio
import hmac
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits import hosts
from serve.limits.haproxy import CHANGES_NOTHING
from serve.limits.refusals import RETRIED, error_body, error_headers, text_of
from serve.limits.removed import PROXY_HEADER, is_removed
from serve.limits.settings import SECRET, Limits

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/-/healthz")
"""Paths that every caller may read, without a token: they tell nothing but health."""
LONG = 1 << 16
"""Length of a body, in bytes, from which it counts as long."""
BEHIND_PROXY = "assay.behind_proxy"
"""Key of a scope: whether the call came through HAProxy, which has applied the limits already."""

PASSED = b"x-assay-front"
"""Header by which a replica knows that the process that took the call has applied all limits."""

_PROXY_HEADER = PROXY_HEADER.lower().encode()
REPEATABLE = re.compile(CHANGES_NOTHING)
"""Paths of calls that may be made twice."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CUT = 128
"""Greatest length of a request id; a longer one is refused."""


async def refuse(send: Send, status: int, message: str = "", *, retry_after: int = 1) -> None:
    """Sends an error in the form that all calls use.

    Args:
        send: of the ASGI server.
        status: HTTP status.
        message: what is wrong and what is allowed; by default the text of the status.
        retry_after: seconds after which the caller may try again, where that helps.
    """
    body = error_body(message or text_of(status))
    headers = error_headers(status, len(body), retry_after=retry_after)
    if status in (400, 408, 413):
        # What is still to come of the body is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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


class Front:
    """Middleware that judges requests by their headers and gives every error one form.

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
        if any(name == b"x-request-id" and len(value) > _CUT for name, value in headers):
            return hosts.Refusal(400, f"a request id has at most {_CUT} characters")
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
            return hosts.Refusal(415, text_of(415))
        return None


class Bodies:
    """Middleware that reads a whole body, of limited length and in limited time, before the call goes on.

    A call of a model that gets no answer, since its replica has died, goes on a second time: it changes nothing.

    Args:
        app: the application behind it.
        limits: settings; by default those of the environment.
    """

    def __init__(self, app: ASGIApp, limits: Limits | None = None) -> None:
        self._app = app
        self._limits = limits or Limits.from_environment()
        self._long: Counter[str] = Counter()
        """Calls at this moment whose bodies are long, by the caller's address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        if scope["type"] != "http" or scope.get(BEHIND_PROXY) or not names & {b"content-length", b"transfer-encoding"}:
            await self._app(scope, receive, send)
            return
        announced = _announced(scope["headers"])
        is_long = announced is None or announced > LONG
        if announced is not None and announced > self._limits.body:
            await refuse(send, 413, self._too_long())
        elif not is_long:
            await self._read_and_go_on(scope, receive, send)
        elif self._are_many(address := scope["client"][0] if scope.get("client") else "unknown"):
            await refuse(send, 503, retry_after=self._limits.retry_after)
        else:
            self._long[address] += 1
            try:
                await self._read_and_go_on(scope, receive, send)
            finally:
                self._long[address] -= 1
                self._long += Counter()  # forgets addresses without calls

    def _are_many(self, address: str) -> bool:
        """Returns whether one more long body would be too many, in all or of its address."""
        most, most_of_one = self._limits.long_bodies, self._limits.long_bodies_per_address
        return self._long.total() >= most or self._long[address] >= most_of_one

    def _too_long(self) -> str:
        return f"the body is longer than {self._limits.body} bytes; send fewer records at a time"

    async def _read_and_go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                body = await _read(receive, self._limits.body)
        except TimeoutError:
            await refuse(send, 408, f"the body must arrive within {self._limits.upload_seconds} s")
            return
        except BodyTooLongError:
            await refuse(send, 413, self._too_long())
            return
        if body is None:
            return
        for _ in range(2 if REPEATABLE.fullmatch(scope["path"]) else 1):
            attempt = _Attempt(body, receive, send)
            # Serve changes the scope that it is given.
            await self._app(dict(scope), attempt.receive, attempt.send)
            if attempt.answered or attempt.gone:
                return


class _Attempt:
    """One call of the application with a body that was read before."""

    def __init__(self, body: bytes, receive: Receive, send: Send) -> None:
        self._waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._receive, self._send = receive, send
        self.answered = self.gone = False

    async def receive(self) -> Message:
        """Returns the body, then whatever comes from the caller."""
        if self._waiting:
            return self._waiting.pop()
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Sends a message of the answer."""
        self.answered = True
        await self._send(message)


class BodyTooLongError(Exception):
    """A body is longer than allowed."""


class Answer:
    """Sends an answer on, and replaces errors that are not in our form.

    Args:
        send: of the ASGI server.
        retry_after: seconds after which a caller may try again.
    """

    def __init__(self, send: Send, retry_after: int) -> None:
        self._send, self._retry_after = send, retry_after
        self.started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """Sends a message of ASGI.

        Args:
            message: of the application.
        """
        if message["type"] == "http.response.start":
            self.started = True
            await self._start(message)
        elif not self._replaced:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        status, headers = message["status"], message.setdefault("headers", [])
        if status < 400:
            await self._send(message)
            return
        given = {bytes(name).lower(): bytes(value) for name, value in headers}
        if given.get(b"content-type", b"").startswith(b"application/json"):
            if status in RETRIED and b"retry-after" not in given:
                message["headers"] = [*headers, (b"retry-after", str(self._retry_after).encode())]
            await self._send(message)
        else:
            self._replaced = True
            body = error_body(text_of(status))
            kept = [(name, given[name]) for name in (b"x-request-id", b"retry-after", b"allow") if name in given]
            own = error_headers(status, len(body), retry_after=self._retry_after)
            known = [name for name, _ in kept]
            own = [(name, value) for name, value in own if name not in known]
            await self._send({"type": "http.response.start", "status": status, "headers": [*own, *kept]})
            await self._send({"type": "http.response.body", "body": body})


async def _say_live(send: Send) -> None:
    body = b'{"live": true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive, most: int) -> bytes | None:
    """Reads a body; None if the caller has gone. Raises BodyTooLongError."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            raise BodyTooLongError
        if not message.get("more_body", False):
            return bytes(body)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Returns the length that Content-Length gives; None without one."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return None


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
