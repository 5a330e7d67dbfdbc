"""The service as ``python -m jobs.serve start`` runs it, its processes, and a client that calls it all the time."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.limits.ports import free_ports
from serve.model import ServedModel

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("clients") / "steady.py"
REPLICA = r"^ray::ServeReplica:assay:"
_START_WITHIN = 300.0
WRONG = 1


@dataclass(frozen=True)
class Call:
    """One call of the client."""

    began: float
    """Seconds since the epoch."""
    seconds: float
    status: int
    """Of HTTP; 0 without an answer, ``WRONG`` where it was not the offline one."""


@dataclass(frozen=True)
class Running:
    """A service that runs."""

    process: subprocess.Popen[str]
    said: Path
    tokens: Path
    url: str
    token: str

    def processes(self, pattern: str = "") -> list[int]:
        """Those of this service alone whose command matches: they have inherited the path of its tokens."""
        mark, found = str(self.tokens).encode(), []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if mark in (folder / "environ").read_bytes() and command and re.search(pattern, command):
                    found.append(int(folder.name))
            except OSError:
                continue
        return sorted(found)

    def kill(self, pattern: str, *, by: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to the first process of this service that matches; returns its number."""
        pid = self.processes(pattern)[0]
        os.kill(pid, by)
        return pid

    def in_rotation(self) -> set[str]:
        """Names of the replicas of the front that HAProxy sends calls to."""
        for folder in Path("/tmp").glob("assay-*/*/admin.sock"):
            if str(self.port) not in (folder.parent / "haproxy.cfg").read_text():
                continue
            try:
                with socket.socket(socket.AF_UNIX) as admin:
                    admin.settimeout(5)
                    admin.connect(str(folder))
                    admin.sendall(b"show stat\n")
                    text = b"".join(iter(lambda: admin.recv(1 << 16), b"")).decode()
            except OSError:
                continue
            rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
            return {
                row["svname"]
                for row in rows
                if row["pxname"] == "http-assay" and "REPLICA" in row["svname"] and row["status"].startswith("UP")
            }
        return set()

    def environment(self, pattern: str) -> dict[str, str]:
        """The environment of the first process of this service that matches."""
        lines = Path(f"/proc/{self.processes(pattern)[0]}/environ").read_bytes().decode().split("\0")
        return {name: value for name, _, value in (line.partition("=") for line in lines) if name}

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def is_ready(self) -> bool:
        """Whether every deployment has a replica, as HAProxy sees it."""
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running(results: Path, folder: Path, *more: str, also: str = "") -> Iterator[Running]:
    """Runs a service of the recipe ``standard``, in a process group of its own; ``also`` is a folder of modules."""
    said, tokens = folder / "said", folder / "tokens.json"
    port, grpc = free_ports(2)
    command = [
        sys.executable, "-m", "jobs.serve", "start", "--repository", str(folder / "serving"), "--results", str(results),
        "--recipe", "standard", "--tokens", str(tokens), "--port", str(port),
        "--grpc-port", str(grpc), "--log", "none", *more,
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = ":".join(filter(None, (str(ROOT / "platform"), str(ROOT), also)))
    with said.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=file, stderr=subprocess.STDOUT, text=True
        )
    service: Running | None = None
    try:
        deadline = time.monotonic() + _START_WITHIN
        while (found := re.search(r"ready: (http://localhost:\d+)/\?token=(\S+)", said.read_text())) is None:
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.5)
        service = Running(process, said, tokens, found[1], found[2])
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for pid in service.processes() if service else ():
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Load:
    """A client that calls a service all the time."""

    process: subprocess.Popen[str]
    written: Path

    def calls(self, since: float = 0.0) -> list[Call]:
        """The calls so far, by their beginning, from a time on."""
        fields = [line.split() for line in self.written.read_text().splitlines()]
        found = [Call(float(one[0]), float(one[1]), int(one[2])) for one in fields if len(one) == 3]
        return sorted((one for one in found if one.began >= since), key=lambda one: one.began)


@contextmanager
def load(service: Running, results: Path, folder: Path, *, rate: float = 50) -> Iterator[Load]:
    """Predicts single records, and compares each answer with the offline one."""
    model = ServedModel(open_finished(Store(str(results)), recipe="standard"))
    records = np.asarray(model.dataset.x[:32])
    offline = model.probabilities(model.logits(model.read(records.tolist()).x))
    about: dict[str, Any] = {
        "path": "/v1/models/standard:predict",
        "rate": rate,
        "bodies": [json.dumps({"instances": [record]}) for record in records.tolist()],
        "expected": [[dict(zip(model.dataset.class_names, row, strict=True))] for row in offline.tolist()],
    }
    given, written = folder / "load.json", folder / f"calls-{time.time():.0f}"
    given.write_text(json.dumps(about))
    with written.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(CLIENT), service.url, service.token, str(given)],
            stdin=subprocess.PIPE, stdout=file, text=True,
        )  # fmt: skip
    try:
        found = Load(process, written)
        wait_until(lambda: len(found.calls()) > 2 * rate, 60, "the client makes no calls")
        yield found
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def wait_until(condition: Callable[[], bool], seconds: float, said: str) -> float:
    """Returns after how many seconds a condition holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{said}, {seconds:g} s long"
        time.sleep(0.2)
    return time.monotonic() - began
