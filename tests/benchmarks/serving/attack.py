"""Attackers in a process of their own: a few connections that send malformed requests, or as many valid ones.

Imports nothing of Assay. Reads its task as one line of JSON, and writes what it found as another. The task names a file
with the source of requests, as ``Mutations.to_json`` gives it.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.serving.mutated_wire import damaged
from tests.benchmarks.serving.mutations import Mutations, Sent

DAMAGED = 0.03
"""Share of requests that are changed below the rules of HTTP too."""
MOST_ERROR = 4096
"""Greatest length of the body of an error."""
_UNFINISHED = 0.3
"""Seconds after which a request that may not be whole is given up."""
_UNANSWERED = 20.0
"""Seconds after which a whole request counts as unanswered."""
_KEPT = 40
_SHOWN = 600
_PLAIN = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass
class Found:
    """What the service answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    sent: int = 0
    refused: int = 0
    bytes_sent: int = 0
    """Of requests that were refused."""
    bytes_answered: int = 0
    """To these, with headers."""
    greatest_error: int = 0
    """Greatest body of a refusal."""
    greatest_amplification: float = 0.0
    """Greatest answer to a refused request, headers and all, by what was sent; of those above ``MOST_ERROR`` only."""
    wrong: list[dict[str, Any]] = field(default_factory=list)
    """Requests with an answer that none may have, and those without one."""
    wrong_count: int = 0

    def keep(self, why: str, number: int, kind: str, raw: bytes, answer: bytes) -> None:
        """Keeps a request that was answered wrongly.

        Args:
            why: what is wrong.
            number: of the request.
            kind: of it.
            raw: its bytes.
            answer: of the service.
        """
        self.wrong_count += 1
        if len(self.wrong) < _KEPT:
            first = raw.partition(b"\r\n")[0][:200].decode("latin-1")
            shown = {"request": raw[:_SHOWN].hex(), "answer": answer[:400].decode("latin-1")}
            self.wrong.append({"why": why, "number": number, "kind": kind, "first_line": first, **shown})


class Attacker:
    """One connection, opened again when the service has closed it.

    Args:
        task: port, host and token.
        mutations: source of requests.
        found: where answers are counted.
    """

    def __init__(self, task: dict[str, Any], mutations: Mutations, found: Found) -> None:
        self._task, self._mutations, self._found = task, mutations, found
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, number: int) -> None:
        """Sends a request, and reads its answer.

        Args:
            number: of the request.
        """
        sent = self._chosen(number)
        kind, raw = sent.kind, sent.call.raw(host=self._task["host"], token=self._task["token"])
        draw, is_damaged = random.Random(-number), False
        if not self._task["valid"] and draw.random() < self._task.get("damaged", DAMAGED):
            is_damaged = True
            kind, raw = damaged(raw, draw)
        self._found.sent += 1
        try:
            await self._connected()
            assert self._writer is not None
            self._writer.write(raw)
            async with asyncio.timeout(_UNFINISHED if is_damaged or not _is_whole(sent) else _UNANSWERED):
                answer = await self._answer(without_body=sent.call.method == "HEAD")
        except TimeoutError:
            self._count(kind, "unfinished" if is_damaged or not _is_whole(sent) else "unanswered", number, raw, b"")
            self.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._count(kind, "closed", number, raw, b"")
            self.close()
        else:
            status = answer[9:12].decode("latin-1")
            self._count(kind, status, number, raw, answer)
            closes = b"connection: close" in answer.partition(b"\r\n\r\n")[0].lower()
            if closes or is_damaged or sent.call.method not in ("GET", "POST"):
                self.close()

    def _chosen(self, number: int) -> Sent:
        if not self._task["valid"]:
            return self._mutations.of(number)
        calls = self._mutations.answered
        return Sent("valid", calls[number % len(calls)])

    def _count(self, kind: str, status: str, number: int, raw: bytes, answer: bytes) -> None:
        found = self._found
        found.statuses[status] += 1
        found.kinds.setdefault(kind, Counter())[status] += 1
        if status == "unanswered" or status.startswith("5") or (self._task["valid"] and status != "200"):
            found.keep(status, number, kind, raw, answer)
        if not status.startswith(("4", "5")):
            return
        body = len(answer.partition(b"\r\n\r\n")[2])
        found.refused += 1
        found.bytes_sent += len(raw)
        found.bytes_answered += len(answer)
        found.greatest_error = max(found.greatest_error, body)
        if len(answer) > MOST_ERROR:
            found.greatest_amplification = max(found.greatest_amplification, len(answer) / len(raw))
        if body > MOST_ERROR:
            found.keep("an error above 4 KiB", number, kind, raw, answer)

    async def _connected(self) -> None:
        if self._writer is None or self._writer.is_closing() or (self._reader is not None and self._reader.at_eof()):
            opened = asyncio.open_connection("127.0.0.1", self._task["port"], limit=1 << 21)
            self._reader, self._writer = await asyncio.wait_for(opened, 5)

    async def _answer(self, *, without_body: bool) -> bytes:
        """Returns the bytes of one answer; those that only announce another are left out."""
        assert self._reader is not None
        while True:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 1"):
                break
        if not _PLAIN.match(head):
            raise OSError("no answer of HTTP")
        lower = head.lower()
        if without_body or head[9:12] in (b"204", b"304"):
            return head
        if length := re.search(rb"\r\ncontent-length: *(\d+)", lower):
            return head + await self._reader.readexactly(int(length[1]))
        if b"transfer-encoding: chunked" in lower:
            return head + await self._chunks()
        return head + await self._reader.read(1 << 24)

    async def _chunks(self) -> bytes:
        assert self._reader is not None
        body = b""
        while size := int(await self._reader.readline() or b"0", 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return body

    def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _is_whole(sent: Sent) -> bool:
    """Returns whether a service can know where a request ends, and need not wait for more of it."""
    return not sent.call.header("transfer-encoding") and not sent.call.header("content-length")


async def run(task: dict[str, Any]) -> dict[str, Any]:
    """Sends requests until all, or for a while.

    Args:
        task: ``port``, ``host``, ``token``, ``mutations`` (a file), ``valid`` (whether to send those that were
            answered), ``damaged`` (share; ``DAMAGED`` by default), ``clients``, ``first`` and ``count`` of the
            numbers, ``seconds`` at most, and ``rate`` (requests a second; 0 sets no limit).

    Returns:
        What was answered.
    """
    mutations = Mutations.from_json(Path(task["mutations"]).read_text())
    found, began = Found(), time.perf_counter()
    numbers = iter(range(task["first"], task["first"] + task["count"]))
    until = began + task["seconds"]

    async def attack() -> None:
        attacker = Attacker(task, mutations, found)
        for number in numbers:
            if time.perf_counter() > until:
                break
            if task["rate"]:
                late = began + (number - task["first"]) / task["rate"] - time.perf_counter()
                if late > 0:
                    await asyncio.sleep(late)
            await attacker.send(number)
        attacker.close()

    await asyncio.gather(*(attack() for _ in range(task["clients"])))
    spent = time.perf_counter() - began
    return {
        "sent": found.sent, "seconds": round(spent, 2), "per_second": round(found.sent / spent, 1),
        "statuses": dict(found.statuses.most_common()), "refused": found.refused, "bytes_sent": found.bytes_sent,
        "bytes_answered": found.bytes_answered, "greatest_error": found.greatest_error,
        "greatest_amplification": round(found.greatest_amplification, 2), "wrong_count": found.wrong_count,
        "wrong": found.wrong, "kinds": {kind: dict(counts) for kind, counts in sorted(found.kinds.items())},
    }  # fmt: skip


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(json.loads(line)))), flush=True)
