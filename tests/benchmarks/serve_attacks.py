"""Does the service stand up to malformed requests, slow clients and floods? As ``python -m jobs.serve start`` runs it.

200,000 malformed requests: half of them mutations of requests that were answered with status 200, the other half
requests to every route that follow no rule; three of a hundred break the rules of HTTP too. The same number gives the
same request, and what was answered wrongly is in the result, with its number and first bytes.

- ``wrong``: requests that were answered with a status of 5xx, or not at all.
- ``longest_error``: bytes of the body of a refusal.
- ``amplification``: bytes answered to refused requests, with headers, by bytes sent. ``greatest_amplification`` is that
  of one request whose answer is longer than 4 KiB, with headers.
- ``growth_…``: megabytes by which a process of the proxy, or a replica, was larger afterwards; ``most_…`` is the most
  meanwhile.
- ``p99``: of a healthy client while malformed requests come, by that while as many valid ones come, the median of
  rounds. Both by 16 connections; the valid ones as fast as they are answered, the malformed ones as many a second.
- ``slow``: 200 slow clients. Seconds until the last is cut off, and the healthy client's p99 by that without them.
- ``uploads``: 32 bodies of a gigabyte while more explanations are asked for than the queue holds.
- ``at_once``: 200 calls at the same moment, on a queue of fewer; short ones, and ones of 900 kB. Other statuses than
  200, 429 and 503, and the seconds of the slowest refusal.
- ``unlike``: valid requests that are not answered with status 200 after all this.

The variable ``ASSAY_MALFORMED_REQUESTS`` sets another number of malformed requests.

``ratio`` is the limit of each figure by what was found, so 1 and more is within it.

    python -m jobs.benchmark serve-attacks
"""

import asyncio
import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.limits.ports import free_ports
from tests.benchmarks.serving.attacked import made, mutations_of
from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.flood import at_once, uploads
from tests.benchmarks.serving.mutations import Mutations
from tests.benchmarks.serving.processes import ROOT, Server, running
from tests.benchmarks.serving.slow import slow_clients
from tests.benchmarks.serving.watch import Watch

CLIENTS = 16
SLOW = 200
AT_ONCE = 200
UPLOADS = 32
FILLING = 120
"""Clients that ask for explanations while bodies are uploaded: more than the queue of explanations holds."""
LIMITS = {
    "wrong": 0, "longest_error": 4096, "amplification": 4.0, "greatest_amplification": 4.0, "growth_proxy": 50.0,
    "growth_replica": 50.0, "p99": 2.0, "slow_seconds": 12.0, "slow_p99": 2.0, "slow_refused": 0,
    "uploads_growth_proxy": 50.0,
    "uploads_megabytes": 16.0, "uploads_seconds": 12.0, "uploads_other": 0, "at_once_other": 0, "at_once_seconds": 1.0,
    "at_once_long_other": 0, "at_once_long_seconds": 1.0, "unlike": 0,
}  # fmt: skip
"""Greatest value of each figure."""
_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is sent."""

    malformed: int = 200_000
    warm: int = 4000
    rounds: int = 3
    seconds: float = 15.0


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Returns all figures with their limits.

    Args:
        quick: 8,000 malformed requests, and one short round.

    Returns:
        What ``python -m jobs.benchmark`` prints.
    """
    size = Size(malformed=8000, warm=1500, rounds=1, seconds=5.0) if quick else Size()
    if given := os.environ.get("ASSAY_MALFORMED_REQUESTS"):
        size = replace(size, malformed=int(given))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mutations = _prepared(folder)
        (port,) = free_ports(1)
        start = ["jobs.serve", "start", "--repository", str(folder / "repository"), "--port", str(port)]
        start += ["--tokens", str(folder / "tokens.json"), "--log", "none"]
        with running(start, port, "ready: http") as server:
            time.sleep(3)
            attacked = Attacked(server, mutations, folder / "mutations.json")
            found, about = _all(attacked, size)
    return {
        "machine": {"cpus": os.cpu_count(), "load_at_the_end": os.getloadavg()},
        "figures": {name: {"found": found[name], "limit": limit} for name, limit in LIMITS.items()},
        "about": about,
        "ratio": {name: _within(found[name], limit) for name, limit in LIMITS.items()},
        "bar": dict.fromkeys(LIMITS, 1.0),
    }


def _within(found: float, limit: float) -> float:
    return round(min(1000.0, (limit + 1e-9) / (found + 1e-9)), 3)


def _prepared(folder: Path) -> Mutations:
    """Trains the models, makes a repository of them, and writes the source of requests."""
    from jobs.serve import load
    from serve.api import create_api
    from serve.repository.loaded import Loaded
    from serve.repository.online import bring_online

    models = made(folder)
    for name in models:
        with contextlib.redirect_stdout(sys.stderr):
            load(
                name,
                results=str(folder / "results"),
                repository=str(folder / "repository"),
                recipe=name,
                cohort=name,
            )
    api = create_api(Loaded([bring_online(one, name=name) for name, one in models.items()]), public=False)
    mutations = mutations_of(models, api)
    (folder / "mutations.json").write_text(mutations.to_json())
    return mutations


class Attacked:
    """A running service, its attackers, and a healthy client.

    Args:
        server: that runs.
        mutations: source of requests.
        file: with it.
    """

    def __init__(self, server: Server, mutations: Mutations, file: Path) -> None:
        self.server, self.mutations, self._file = server, mutations, file
        self.host, self.token, self.port = f"localhost:{server.port}", server.token, server.port

    def raw(self, call: Call) -> bytes:
        """Returns the bytes of a call to this service."""
        return call.raw(host=self.host, token=self.token)

    def attack(
        self, *, count: int, seconds: float, valid: bool = False, rate: float = 0.0, first: int = 0
    ) -> dict[str, Any]:
        """Sends requests by 16 connections, in a process of their own.

        Args:
            count: of requests at most.
            seconds: at most.
            valid: whether to send those that are answered.
            rate: requests a second; as fast as they are answered by default.
            first: number of the first.

        Returns:
            What was answered, see ``tests.benchmarks.serving.attack``.
        """
        task = {"port": self.port, "host": self.host, "token": self.token, "mutations": str(self._file), "valid": valid}
        task |= {"clients": CLIENTS, "first": first, "count": count, "seconds": seconds, "rate": rate}
        found: dict[str, Any] = _in_process("attack", task)
        return found

    @contextmanager
    def healthy(self, seconds: float) -> Iterator[list[dict[str, Any]]]:
        """Lets a healthy client predict meanwhile, in a process of its own.

        Args:
            seconds: of each of its reports.

        Yields:
            List of its reports; complete at the end.
        """
        reports: list[dict[str, Any]] = []
        requests = [base64.b64encode(self.raw(self.mutations.answered[0])).decode()]
        task = {"port": self.port, "clients": 1, "seconds": seconds, "warm": 0.5, "requests": requests}
        over = threading.Event()

        def report() -> None:
            while not over.is_set():
                reports.append(_in_process("load", task))

        thread = threading.Thread(target=report)
        thread.start()
        try:
            yield reports
        finally:
            over.set()
            thread.join()

    def unlike(self) -> int:
        """Returns how many of the valid requests are not answered with status 200."""
        calls = len(self.mutations.answered)
        found = self.attack(count=calls, seconds=60, valid=True)
        return calls - int(found["statuses"].get("200", 0))


def _in_process(module: str, task: dict[str, Any]) -> Any:
    command = [sys.executable, "-m", f"tests.benchmarks.serving.{module}"]
    line = json.dumps(task) + "\n"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    done = subprocess.run(command, input=line, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment)
    return json.loads(done.stdout)


def _all(attacked: Attacked, size: Size) -> tuple[dict[str, float], dict[str, Any]]:
    """Runs all attacks in turn; returns the figures, and what they are made of."""
    if attacked.unlike():
        raise RuntimeError("not every valid request is answered with status 200, so mutations of them say little")
    attacked.attack(count=size.warm, seconds=_SECONDS, valid=True)
    found: dict[str, float] = {}
    about: dict[str, Any] = {}
    for part in (_malformed, _slow, _uploads, _at_once):
        figures, details = part(attacked, size)
        found |= figures
        about[part.__name__.strip("_")] = details
        print(json.dumps(figures), file=sys.stderr, flush=True)
    found["unlike"] = attacked.unlike()
    return found, about


def _malformed(attacked: Attacked, size: Size) -> tuple[dict[str, float], dict[str, Any]]:
    with Watch(attacked.server) as watch:
        rounds, first = [], 0
        for _ in range(size.rounds):
            with attacked.healthy(size.seconds) as beside_valid:
                valid = attacked.attack(count=10**9, seconds=size.seconds + 1, valid=True)
            with attacked.healthy(size.seconds) as beside_malformed:
                rate = valid["per_second"]
                some = attacked.attack(count=10**9, seconds=size.seconds + 1, rate=rate, first=first)
            first += some["sent"]
            rounds.append((valid, some, beside_valid[0], beside_malformed[0]))
        with attacked.healthy(size.seconds) as beside_all:
            rest = attacked.attack(count=max(0, size.malformed - first), seconds=_SECONDS, first=first)
        time.sleep(2)
    parts = [*(one[1] for one in rounds), rest]
    refused_bytes, sent_bytes = (sum(one[key] for one in parts) for key in ("bytes_answered", "bytes_sent"))
    figures = {
        "wrong": sum(one["wrong_count"] for one in parts),
        "longest_error": max(one["greatest_error"] for one in parts),
        "amplification": round(refused_bytes / max(1, sent_bytes), 3),
        "greatest_amplification": max(one["greatest_amplification"] for one in parts),
        "growth_proxy": watch.growth("proxy"),
        "growth_replica": watch.growth("replica"),
        "p99": round(statistics.median(bad["p99_ms"] / good["p99_ms"] for *_, good, bad in rounds), 3),
    }
    about = {
        "sent": sum(one["sent"] for one in parts),
        "most_proxy": watch.growth("proxy", most=True),
        "most_replica": watch.growth("replica", most=True),
        "rounds": [
            {
                "valid": _short(good),
                "malformed": _short(bad),
                "healthy_beside_valid": one,
                "healthy_beside_malformed": other,
            }
            for good, bad, one, other in rounds
        ],
        "rest": rest,
        "healthy_beside_the_rest": beside_all,
        "wrong": [wrong for one in parts for wrong in one["wrong"]],
    }
    return figures, about


def _short(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("sent", "seconds", "per_second", "statuses")}


def _slow(attacked: Attacked, size: Size) -> tuple[dict[str, float], dict[str, Any]]:
    with attacked.healthy(10.0) as alone:
        pass
    with attacked.healthy(10.0) as beside:
        path = attacked.mutations.answered[0].path
        ended = asyncio.run(slow_clients(attacked.port, attacked.token, path, clients=SLOW))
    figures = {
        "slow_seconds": ended["longest_seconds"],
        "slow_p99": round(beside[0]["p99_ms"] / alone[0]["p99_ms"], 3),
        "slow_refused": sum(sum(one["refused"].values()) for one in beside),
    }
    return figures, {**ended, "healthy_alone": alone, "healthy_beside": beside}


def _explaining(attacked: Attacked, records: int) -> bytes:
    """Returns a request to explain many records of the table."""
    call = next(one for one in attacked.mutations.answered if one.path.endswith("table:explain"))
    asked = json.loads(call.body)
    asked["instances"] = asked["instances"][:1] * records
    return attacked.raw(replace(call, body=json.dumps(asked).encode()))


@contextmanager
def _full(attacked: Attacked) -> Iterator[None]:
    """Keeps the queue of explanations full."""
    task: dict[str, Any] = {"port": attacked.port, "clients": FILLING, "seconds": 20.0, "warm": 0.0}
    task["requests"] = [base64.b64encode(_explaining(attacked, 256)).decode()]
    thread = threading.Thread(target=_in_process, args=("load", task))
    thread.start()
    time.sleep(5)
    try:
        yield
    finally:
        thread.join()


def _uploads(attacked: Attacked, size: Size) -> tuple[dict[str, float], dict[str, Any]]:
    with _full(attacked), Watch(attacked.server) as watch:
        path = "/v1/models/table:explain"
        ended = asyncio.run(uploads(attacked.port, attacked.token, path, clients=UPLOADS))
    # A client that still sends when it is refused may lose the answer with the connection.
    other = sum(n for status, n in ended["ended"].items() if status not in ("408", "413", "429", "503", "closed"))
    figures = {
        "uploads_growth_proxy": watch.growth("proxy", most=True),
        "uploads_megabytes": ended["most_megabytes"],
        "uploads_seconds": ended["longest_seconds"],
        "uploads_other": other,
    }
    return figures, ended


def _at_once(attacked: Attacked, size: Size) -> tuple[dict[str, float], dict[str, Any]]:
    predict = attacked.mutations.answered[0]
    padded = attacked.raw(replace(predict, body=predict.body.ljust(900_000)))
    figures: dict[str, float] = {}
    about = {}
    for name, raw in (("at_once", _explaining(attacked, 64)), ("at_once_long", padded)):
        about[name] = one = asyncio.run(at_once(attacked.port, raw, clients=AT_ONCE))
        figures[f"{name}_other"] = sum(
            n for status, n in one["statuses"].items() if status not in ("200", "429", "503")
        )
        figures[f"{name}_seconds"] = one["slowest_refusal"]
        time.sleep(3)
    return figures, about
