"""Floods: many calls at the same moment, and endless uploads."""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any

_LONGEST = 90.0
_GIGABYTE = 10**9
_PART = b"1," * (1 << 15)


async def at_once(port: int, raw: bytes, *, clients: int) -> dict[str, Any]:
    """Sends one request on each of many connections at the same moment.

    Args:
        port: of the service.
        raw: bytes of the request.
        clients: number of connections.

    Returns:
        Numbers of statuses, and the seconds of the slowest refusal since its request was sent.
    """
    go = asyncio.Event()
    tasks = [asyncio.create_task(_call(port, raw, go)) for _ in range(clients)]
    await asyncio.sleep(1)
    go.set()
    done = await asyncio.gather(*tasks)
    refused = [seconds for status, seconds in done if status != "200"]
    statuses = dict(Counter(status for status, _ in done).most_common())
    return {"clients": clients, "statuses": statuses, "slowest_refusal": round(max(refused, default=0.0), 3)}


async def _call(port: int, raw: bytes, go: asyncio.Event) -> tuple[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await go.wait()
    sent = time.perf_counter()

    async def send() -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            writer.write(raw)
            await writer.drain()
            sent = time.perf_counter()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(_LONGEST):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        return "unanswered", _LONGEST
    except (OSError, asyncio.IncompleteReadError):
        return "closed", time.perf_counter() - sent
    finally:
        sending.cancel()
        writer.close()
    return head[9:12].decode("latin-1"), max(0.0, time.perf_counter() - sent)


async def uploads(port: int, token: str, path: str, *, clients: int) -> dict[str, Any]:
    """Sends bodies of a gigabyte, one half with their length and one half in chunks, until they are refused.

    Args:
        port: of the service.
        token: of who calls.
        path: that is called.
        clients: number of uploads at once.

    Returns:
        How they ended, the megabytes that left a client at most, and the seconds of the longest.
    """
    ends = await asyncio.gather(*(_upload(port, token, path, number) for number in range(clients)))
    statuses = dict(Counter(status for status, _, _ in ends).most_common())
    return {
        "clients": clients,
        "ended": statuses,
        "most_megabytes": round(max(sent for _, sent, _ in ends) / 1e6, 1),
        "longest_seconds": round(max(seconds for _, _, seconds in ends), 2),
    }


async def _upload(port: int, token: str, path: str, number: int) -> tuple[str, int, float]:
    began, sent = time.perf_counter(), 0
    chunked = number % 2 == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {_GIGABYTE}\r\n\r\n"
    part = b"%x\r\n%s\r\n" % (len(_PART), _PART) if chunked else _PART

    async def send() -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            writer.write(head.encode())
            while sent < _GIGABYTE:
                writer.write(part)
                await writer.drain()
                sent += len(_PART)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(_LONGEST):
            answer = await reader.read(4096)
        status = answer[9:12].decode("latin-1") or "closed"
    except TimeoutError:
        status = "unanswered"
    except OSError:
        status = "closed"
    finally:
        sending.cancel()
        writer.close()
    return status, sent, time.perf_counter() - began
