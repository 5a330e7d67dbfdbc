"""Stand-ins for replicas, HAProxy in front of them, and raw calls: attacks need no Ray."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.limits.settings import SECRET, VARIABLE, Limits
from tests.serve.limits.rendered import Servers, render

SCRIPT = Path(__file__).parents[3] / "serve" / "limits" / "haproxy.sh"


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Replica:
    """A server that keeps what it received, and answers by the header ``X-Do``, as a replica of Ray Serve would."""

    port: int = field(default_factory=free_port)
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    working: int = 0
    most_working: int = 0

    def start(self) -> "Replica":
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True).start()
        assert started.wait(10)
        return self

    async def _run(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        started.set()
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await _body(reader, headers)
        if path == "/-/healthz":
            writer.write(_response(200, b"success", "text/plain"))
            return True
        self.received.append((path, headers, body))
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        try:
            return await self._do(headers.get("x-do", ""), path, headers, writer)
        finally:
            self.working -= 1

    async def _do(self, what: str, path: str, headers: Mapping[str, str], writer: asyncio.StreamWriter) -> bool:
        if what == "die":
            return False
        if what.startswith("wait"):
            await asyncio.sleep(float(what.removeprefix("wait")))
        if what.isdigit():
            writer.write(_response(int(what), f"Path '{path}' not found: Traceback".encode(), "text/plain"))
        elif what.startswith("json"):
            writer.write(_response(int(what.removeprefix("json")), b'{"error": "ours"}', "application/json"))
        else:
            writer.write(_response(200, json.dumps({"path": path, "headers": headers}).encode(), "application/json"))
        return True


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


def _response(status: int, body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Proxy:
    """HAProxy with a hardened configuration."""

    port: int
    metrics: int
    stats: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10


@contextmanager
def proxy(
    folder: Path, servers: Servers, limits: Limits, *, log_port: int = 514, by: Sequence[str] = ()
) -> Iterator[Proxy]:
    """Starts HAProxy as Ray does: through the wrapper, on the configuration of Ray; ``by`` another program."""
    port, metrics, stats = free_port(), free_port(), free_port()
    file = folder / "haproxy.cfg"
    config = render(servers, port=port, folder=folder, stats=stats, metrics=metrics)
    file.write_text(re.sub(r"127\.0\.0\.1:514\b", f"127.0.0.1:{log_port}", config))
    (folder / "state").touch()
    environment = {**os.environ, VARIABLE: limits.to_json(), SECRET: "s" * 32, "ASSAY_PYTHON": sys.executable}
    log = (folder / "log").open("wb")
    process = subprocess.Popen([*by, SCRIPT, "-db", "-f", file, "-dR"], env=environment, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Proxy(port, metrics, stats, folder, process)
    finally:
        process.kill()
        process.wait()
        log.close()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        with closing(socket.socket()) as one:
            if not one.connect_ex(("127.0.0.1", port)):
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"HAProxy did not start: {log.read_text()}")


@dataclass
class Answer:
    """What a raw call got."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    closed: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error in our form."""
        assert self.headers["content-type"] == "application/json", self
        assert len(self.body) <= 4096
        assert set(self.json) == {"error"}
        return str(self.json["error"])


def call(
    port: int, data: bytes, *, wait: float = 20, then: bytes = b"", after: float = 0, source: str = "127.0.0.1"
) -> Answer:
    """Sends bytes from an address of this machine and reads one answer."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=wait, source_address=(source, 0)) as connection:
        try:
            connection.sendall(data)
            if then:
                time.sleep(after)
                connection.sendall(then)
        except OSError:
            pass  # refused before all was sent
        return _read(connection, start)


def _read(connection: socket.socket, start: float) -> Answer:
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed without an answer")
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    closed = headers.get("connection", "") == "close"
    return Answer(int(lines[0].split(" ")[1]), headers, body, time.monotonic() - start, closed)


@contextmanager
def held_long(port: int, count: int, *, size: int = 100_000) -> Iterator[None]:
    """Holds calls of one address whose long bodies do not come, in the block."""
    with ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.sendall(request("/", b"1", length=size))
        time.sleep(0.3)
        yield


def request(
    path: str = "/", body: bytes = b"", *headers: bytes, method: str = "POST", host: str = "localhost", length: int = -1
) -> bytes:
    """The bytes of a request."""
    size = len(body) if length < 0 else length
    lines = [f"{method} {path} HTTP/1.1".encode(), f"Host: {host}".encode(), *headers]
    lines += [f"Content-Length: {size}".encode()] if size or method == "POST" else []
    return b"\r\n".join([*lines, b"", b""]) + body
