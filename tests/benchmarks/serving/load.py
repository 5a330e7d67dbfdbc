"""Clients in a process of their own: each keeps one connection, and sends its next request once it has the answer.

Imports nothing of Assay. Reads its task as one line of JSON, and writes what it found as another:

    {"port": 8000, "clients": 16, "seconds": 5, "warm": 1, "requests": ["POST /… (base64)", …]}
"""

import asyncio
import base64
import json
import statistics
import sys
import time
from typing import Any

import uvloop

FEWEST, MOST = 1, 240.0
"""Answers for each client, and seconds, until which slow calls are measured."""
SPLIT = b"\r\n\r\n"
"""Between the headers and the body."""


class Connection(asyncio.Protocol):
    """One client. Answers must have a Content-Length.

    Args:
        requests: bytes of whole requests, sent in turn.
        first: number of the request with which it begins.
    """

    def __init__(self, requests: list[bytes], first: int) -> None:
        self._requests, self._next = requests, first
        self._buffer, self._wanted, self._sent = bytearray(), -1, 0.0
        self.seconds: list[float] = []
        self.ends: list[float] = []
        self.refused: dict[str, int] = {}
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted < 0:
            head = self._buffer.find(SPLIT)
            if head < 0:
                return
            lower = bytes(self._buffer[:head]).lower()
            place = lower.index(b"content-length:") + 15
            end = lower.find(b"\r\n", place)
            self._wanted = head + 4 + int(lower[place : end if end > 0 else len(lower)])
        if len(self._buffer) < self._wanted:
            return
        now = time.perf_counter()
        status = bytes(self._buffer[9:12]).decode()
        if status == "200":
            self.seconds.append(now - self._sent)
            self.ends.append(now)
        else:
            said = f"{status} {bytes(self._buffer).partition(SPLIT)[2][:120].decode(errors='replace')}"
            self.refused[said] = self.refused.get(said, 0) + 1
        self._buffer.clear()
        self._wanted = -1
        if not self.closed:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self.refused["closed"] = self.refused.get("closed", 0) + 1

    def close(self) -> None:
        """Ends this client."""
        self.closed = True
        self._transport.close()


async def run(task: dict[str, Any]) -> dict[str, Any]:
    """Sends requests for a while.

    Args:
        task: port, clients, seconds, seconds before them that do not count, and requests.

    Returns:
        Requests a second, and milliseconds of them.
    """
    loop = asyncio.get_running_loop()
    requests = [base64.b64decode(one) for one in task["requests"]]
    clients = []
    for number in range(task["clients"]):
        first = number * len(requests) // task["clients"]
        _, client = await loop.create_connection(
            lambda first=first: Connection(requests, first), "127.0.0.1", task["port"]
        )
        clients.append(client)
    await asyncio.sleep(task["warm"])
    began = time.perf_counter()
    await asyncio.sleep(task["seconds"])
    # Slow answers: until each client has one, but not for ever.
    while sum(len(client.seconds) for client in clients) < FEWEST * len(clients) and time.perf_counter() < began + MOST:
        await asyncio.sleep(0.1)
    until = time.perf_counter()
    for client in clients:
        client.close()
    times = sorted(
        taken
        for client in clients
        for taken, end in zip(client.seconds, client.ends, strict=True)
        if began <= end <= until
    )
    refused: dict[str, int] = {}
    for client in clients:
        for status, count in client.refused.items():
            refused[status] = refused.get(status, 0) + count
    if not times:
        return {"answers": 0, "refused": refused}
    return {
        "answers": len(times),
        "sent": sum(len(client.seconds) for client in clients),
        "per_second": round(len(times) / (until - began), 2),
        "p50_ms": round(1000 * statistics.median(times), 3),
        "p99_ms": round(1000 * times[min(len(times) - 1, int(0.99 * len(times)))], 3),
        "refused": refused,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(json.loads(line)))), flush=True)
