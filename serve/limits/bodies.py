"""Reads whole bodies, of limited length and in limited time, before a call takes a place in a queue."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits.admission import BEHIND_PROXY
from serve.limits.error_form import refuse
from serve.limits.haproxy import CHANGES_NOTHING
from serve.limits.settings import Limits

LONG = 1 << 16
"""Length of a body, in bytes, from which it counts as long."""
REPEATABLE = re.compile(CHANGES_NOTHING)
"""Paths of calls that may be made twice."""


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
