"""Limits of connections in Ray's Python proxy: slow or long headers, and the number of connections.

uvicorn has no limit for a caller that sends headers slowly or without end, and no middleware sees such a caller. Ray
lets nobody choose uvicorn's protocol class, so that ``limit_connections`` puts a subclass in its place.
"""

import asyncio
from collections import Counter
from typing import Any

import uvicorn.protocols.http.auto as uvicorn_protocol

from serve.limits.refusals import error_body, error_headers
from serve.limits.settings import Limits


def limit_connections(limits: Limits) -> None:
    """Makes servers of uvicorn that start later in this process limit their connections.

    Args:
        limits: settings.
    """
    base = uvicorn_protocol.AutoHTTPProtocol
    if not issubclass(base, Limited):
        kind = type("LimitedProtocol", (Limited, base), {"limits": limits})
        uvicorn_protocol.AutoHTTPProtocol = kind


class Limited:
    """Part of a protocol of uvicorn that cuts connections whose headers are slow or long."""

    limits: Limits
    open: Counter[str] = Counter()
    """Open connections by address."""

    # Of uvicorn's protocols.
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any
    client: tuple[str, int] | None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Counts the connection, and closes it if there are too many."""
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)  # type: ignore[misc]
        self._address = self.client[0] if self.client else ""
        self.open[self._address] += 1
        if (
            self.open[self._address] > self.limits.connections_per_address
            or self.open.total() > self.limits.connections
        ):
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_timer()
        self.open[self._address] -= 1
        if not self.open[self._address]:
            del self.open[self._address]
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        """Reads on, unless the headers are too long."""
        before = self.cycle
        if self._waits_for_head():
            self._head += len(data)
            if self._timer is None:
                self._expect_head()
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not before:
            self._head = 0
            self._stop_timer()
        elif self._waits_for_head() and self._head > 2 * self.limits.header_bytes:
            self._cut(431, "the headers are too long")

    def _waits_for_head(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(self.limits.upload_seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._waits_for_head():
            self._cut(408, f"the headers must arrive within {self.limits.upload_seconds} s")

    def _cut(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        body = error_body(message)
        headers = [*error_headers(status, len(body)), (b"connection", b"close")]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 %d Refused\r\n" % status + head + b"\r\n" + body)
        self.transport.close()
