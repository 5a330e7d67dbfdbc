"""Slow clients: headers and bodies that come byte by byte, each on a connection of its own."""

import asyncio
import contextlib
import time
from typing import Any

EVERY = 0.5
"""Seconds between two bytes."""
LONGEST = 30.0
"""Seconds after which a client that was not cut off ends by itself."""
_CLOSED = "closed"


async def slow_clients(port: int, token: str, path: str, *, clients: int) -> dict[str, Any]:
    """Lets slow clients call: a third with slow headers, a third with slow bodies, a third with slow chunks.

    Args:
        port: of the service.
        token: of who calls.
        path: that is called.
        clients: number of them.

    Returns:
        Their number, how they ended, and the greatest number of seconds that one of them lived.
    """
    ends = await asyncio.gather(*(_one(port, token, path, number) for number in range(clients)))
    statuses: dict[str, int] = {}
    for status, _ in ends:
        statuses[status] = statuses.get(status, 0) + 1
    return {"clients": clients, "ended": statuses, "longest_seconds": round(max(seconds for _, seconds in ends), 2)}


async def _one(port: int, token: str, path: str, number: int) -> tuple[str, float]:
    """Returns how a client ended, and after how many seconds."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Type: application/json\r\n"
    quick, drop = (
        (head, b"X"),
        (f"{head}Content-Length: 100000\r\n\r\n", b"["),
        (f"{head}Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
    )[number % 3]
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dripping = asyncio.create_task(_drip(writer, quick.encode(), drop))
    try:
        async with asyncio.timeout(LONGEST):
            answer = await reader.read(4096)
    except TimeoutError:
        return "never", time.perf_counter() - began
    except OSError:
        return _CLOSED, time.perf_counter() - began
    finally:
        dripping.cancel()
        writer.close()
    return answer[9:12].decode("latin-1") or _CLOSED, time.perf_counter() - began


async def _drip(writer: asyncio.StreamWriter, quick: bytes, drop: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(quick)
        while True:
            await asyncio.sleep(EVERY)
            writer.write(drop)
            await writer.drain()
