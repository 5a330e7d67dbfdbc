"""How fast is a served model? Ours, as ``python -m jobs.serve start`` runs it, beside a plain FastAPI application.

The peer is one process: FastAPI, uvicorn, torch, Captum and shap, sync routes and pydantic lists, as anyone writes it.
Both have the same network, one torch thread, the same priority, and the same clients in a process of their own, in
turns: 1, 16 and 64 of them, each of which sends a request once it has its answer. Before the clock runs, answers are
compared; a difference, or a single refused request, voids the timing.

- ``predict_one``, ``predict_64``: one record, and 64 as a binary tensor of the Open Inference Protocol (as JSON where
  the service has no binary tensors; the row says so). The peer gets JSON, which is all that it reads.
- ``explain_table``: integrated gradients of one record by 64 points on both sides; ours are no less exact.
- ``explain_xray``: the same of an X-ray, by a small convolutional network.
- ``explain_xray_by_need``: ours places points where they are needed; the peer has the fewest whose error is no greater.
- ``expected_xray``: expected gradients; the peer samples with shap until its error is no greater than ours, at most
  ``MOST_SAMPLES`` times (then its error is greater, and the row says so). With 1 client and 16.
- ``python_proxy``: one record through Ray's Python proxy, beside a deployment that does nothing, with 1 client
  and 16.

``ratio`` is at 16 clients. While the peer is measured, ours idles beside it and takes a little of the machine:
``idle_cpus`` says how much. ``cpu_ms`` is the processor time of all processes of a side for one request, which other
work on the machine disturbs less.

    python -m jobs.benchmark serve
"""

import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serve.limits.taken import free_ports
from tests.benchmarks.serving.processes import ROOT, Server, running
from tests.benchmarks.serving.study import POINTS, STUDY, Case, error_of, made

CLIENTS = (1, 16, 64)
COMPARED = 16
"""Records whose answers are compared."""
SAME = 1e-6
"""Greatest difference of two probabilities."""
ALIKE = 0.05
"""Greatest error of a value, relative to the record's greatest, at which both still explain the same by 64 points."""
COUNTS = (3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200, 255)
MOST_SAMPLES = 3200
BARS = {
    "predict_one": 0.6, "predict_64": 1.3, "explain_table": 1.8, "explain_xray": 0.95, "explain_xray_by_need": 1.4,
    "expected_xray": 5.0, "p99_explain_table": 1 / 0.7, "p99_explain_xray": 1 / 0.7, "p50_of_one_client": 1.0,
    "python_proxy": 0.8,
}  # fmt: skip
P50_MS = 2.0
"""Milliseconds in which half of the predictions of one client must be answered."""


class DifferentWorkError(AssertionError):
    """The two did not do the same work, so the timing says nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A kind of call, to both sides."""

    ours: list[bytes]
    peer: list[bytes]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long each call is measured."""

    rounds: int = 3
    seconds: float = 2.5


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Returns figures of both sides, their ratios at 16 clients, and the bars.

    Args:
        quick: one short round each.

    Returns:
        What ``python -m jobs.benchmark`` prints.
    """
    length = Length(rounds=1, seconds=2.0) if quick else Length()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cases = made(folder)
        ours, peer, noop = free_ports(3)
        start = ["jobs.serve", "start", "--repository", _repository(folder), "--port", str(ours)]
        start += ["--tokens", str(folder / "tokens.json")]
        plain = ["tests.benchmarks.serving.plain_app", str(folder / "peer"), str(peer)]
        with (
            running(start, ours, "ready: http") as service,
            running(plain, peer, "ready") as other,
        ):
            time.sleep(3)
            _require_same_priority(service, other)
            rows = _rows(cases, service, other)
            found = {}
            for name, row in rows.items():
                clients = CLIENTS[:2] if name == "expected_xray" else CLIENTS
                found[name] = _measured(row, service, other, length, clients=clients)
                print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
            memory = {"ours": service.memory(), "peer": other.memory()}
        with (
            running([*start, "--python-proxy"], ours, "ready: http") as service,
            running(["tests.benchmarks.serving.no_op", str(noop)], noop, "ready: http") as other,
        ):
            time.sleep(3)
            one = _requests(service, "/v1/models/table:predict", _json(cases["table"], 1))
            nothing = Row(ours=one, peer=_requests(other, "/", [b"{}"]))
            found["python_proxy"] = _measured(nothing, service, other, length, clients=(1, 16))
            memory["ours_by_python_proxy"] = service.memory()
    return {
        "unit": f"requests a second and milliseconds, the median of {length.rounds} alternating rounds, "
        f"{length.seconds:g} seconds each",
        "machine": {"cpus": os.cpu_count(), "load_at_the_end": os.getloadavg()},
        "rows": found,
        "memory": memory,
        "ratio": _ratios(found),
        "bar": BARS,
    }


def _ratios(found: dict[str, Any]) -> dict[str, float]:
    at_16 = {name: (one["ours"]["16"], one["peer"]["16"]) for name, one in found.items()}
    ratio = {name: ours["per_second"] / peer["per_second"] for name, (ours, peer) in at_16.items()}
    for name in ("explain_table", "explain_xray"):
        ours, peer = at_16[name]
        ratio[f"p99_{name}"] = peer["p99_ms"] / ours["p99_ms"]
    ratio["p50_of_one_client"] = P50_MS / found["predict_one"]["ours"]["1"]["p50_ms"]
    return {name: round(value, 3) for name, value in ratio.items()}


def _repository(folder: Path) -> str:
    """Makes a repository of both models."""
    place = str(folder / "repository")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    for name in STUDY["cohorts"]:
        command = [sys.executable, "-m", "jobs.serve", "load", name, "--results", str(folder / "results")]
        command += ["--recipe", name, "--cohort", name, "--repository", place]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    return place


def _require_same_priority(*servers: Server) -> None:
    found = [one.niceness() for one in servers]
    if found[0] != found[1] or len(found[0]) > 1:
        raise DifferentWorkError(f"the two have other priorities: {found}")


def _rows(cases: dict[str, Case], ours: Server, peer: Server) -> dict[str, Row]:
    """Compares the answers of both, and returns what is sent to each."""
    table, xray = cases["table"], cases["xray"]
    one, many = _json(table, 1), _json(table, 64)
    predict = "/v1/models/table:predict"
    _require_same_classes(_ask(ours, predict, one[0]), _ask(peer, "/table/predict", one[0]))
    _require_same_classes(_ask(ours, predict, many[0]), _ask(peer, "/table/predict", many[0]))
    return {
        "predict_one": Row(ours=_requests(ours, predict, one), peer=_requests(peer, "/table/predict", one)),
        "predict_64": _of_64(table, ours, peer, many),
        "explain_table": _integrated(table, "table", ours, peer, method="default", points=POINTS),
        "explain_xray": _integrated(cases["xray_64"], "xray_64", ours, peer, method="default", points=POINTS),
        "explain_xray_by_need": _integrated(xray, "xray", ours, peer, method="integrated_gradients", points=None),
        "expected_xray": _expected(xray, ours, peer),
    }


def _of_64(table: Case, ours: Server, peer: Server, many: list[bytes]) -> Row:
    """64 records as a binary tensor, or as JSON where the service has none."""
    rows = [np.roll(table.x, -first, 0) for first in range(len(table.x))]
    path, bodies = "/v2/models/table/infer", [_binary(one) for one in rows]
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(bodies[0][1])}
    to_peer = _requests(peer, "/table/predict", many)
    try:
        answer, said = _post(ours, path, bodies[0][0], headers)
    except OSError:
        about = {"sent": "JSON: the service has no binary tensors"}
        return Row(ours=_requests(ours, "/v1/models/table:predict", many), peer=to_peer, about=about)
    length = int(said["inference-header-content-length"])
    probabilities = np.frombuffer(answer[length:], "<f4", count=2 * len(table.x)).reshape(-1, 2)
    theirs = [list(one["probabilities"].values()) for one in _ask(peer, "/table/predict", many[0])["predictions"]]
    if np.abs(probabilities - np.array(theirs)).max() > SAME:
        raise DifferentWorkError("the two answer a binary tensor and JSON with other probabilities")
    return Row(
        ours=[_request(ours, path, body, headers) for body, _ in bodies], peer=to_peer, about={"sent": "binary tensors"}
    )


def _binary(x: np.ndarray) -> tuple[bytes, int]:
    """Returns a body of the Open Inference Protocol with a binary tensor, and the length of its JSON."""
    raw = np.ascontiguousarray(x, "<f4").tobytes()
    tensor = {"name": "records", "shape": list(x.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, len(head)


def _integrated(case: Case, name: str, ours: Server, peer: Server, *, method: str, points: int | None) -> Row:
    """Integrated gradients; without ``points``, the peer has the fewest that are as exact as ours."""
    exact = case.exact_integrated(COMPARED)
    bodies = _json(case, 1, method=method)
    path, theirs = f"/v1/models/{name}:explain", f"/{name}/explain"
    own = error_of(_attributions(ours, path, bodies[:COMPARED], exact), exact)

    def error(count: int) -> float:
        return error_of(_attributions(peer, theirs, _json(case, 1, points=count)[:COMPARED], exact), exact)

    count = points or next((one for one in COUNTS if error(one) <= own), COUNTS[-1])
    of_peer = error(count)
    if max(own, of_peer) > ALIKE or (own > of_peer if points else of_peer > own):
        raise DifferentWorkError(
            f"{name}: the error of ours is {own:.2e}, of the peer {of_peer:.2e} with {count} points"
        )
    about = {"error": {"ours": round(own, 5), "peer": round(of_peer, 5)}, "points_of_peer": count}
    to_peer = _requests(peer, theirs, _json(case, 1, points=count))
    return Row(ours=_requests(ours, path, bodies), peer=to_peer, about=about)


def _expected(case: Case, ours: Server, peer: Server) -> Row:
    """Expected gradients; the peer has the fewest samples that are as exact as ours, up to ``MOST_SAMPLES``."""
    exact = case.exact_expected(COMPARED)
    bodies, path, theirs = _json(case, 1, method="default"), "/v1/models/xray:explain", "/xray/expected"
    own = error_of(_attributions(ours, path, bodies[:COMPARED], exact), exact)
    count, of_peer = 100, np.inf
    while of_peer > own and count < MOST_SAMPLES:
        count *= 2
        of_peer = error_of(_attributions(peer, theirs, _json(case, 1, points=count)[:COMPARED], exact), exact)
    about = {"error": {"ours": round(own, 5), "peer": round(of_peer, 5)}, "samples_of_peer": count}
    if of_peer > own:
        about["not_equal"] = "the peer is less exact than ours: with as small an error it would be slower"
    to_peer = _requests(peer, theirs, _json(case, 1, points=count))
    return Row(ours=_requests(ours, path, bodies), peer=to_peer, about=about)


def _attributions(server: Server, path: str, bodies: list[bytes], exact: np.ndarray) -> np.ndarray:
    found = [_ask(server, path, body)["explanations"][0]["attributions"] for body in bodies]
    return np.array(found).reshape(exact.shape)


def _require_same_classes(ours: dict[str, Any], peer: dict[str, Any]) -> None:
    both = [[list(one["probabilities"].values()) for one in said["predictions"]] for said in (ours, peer)]
    if np.abs(np.array(both[0]) - np.array(both[1])).max() > SAME:
        raise DifferentWorkError("the two answer with other probabilities")


def _json(case: Case, count: int, **further: Any) -> list[bytes]:
    """Returns a body for each record, with as many records from there on."""
    rolled = (np.roll(case.x, -first, 0)[:count] for first in range(len(case.x)))
    return [json.dumps({"instances": rows.tolist(), **further}).encode() for rows in rolled]


def _request(server: Server, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    given = {
        "Host": f"localhost:{server.port}",
        "Content-Type": "application/json",
        **_token(server),
        **(headers or {}),
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _requests(server: Server, path: str, bodies: list[bytes]) -> list[bytes]:
    return [_request(server, path, body) for body in bodies]


def _token(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"} if server.token else {}


def _post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body, {**_token(server), **headers})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def _ask(server: Server, path: str, body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_post(server, path, body, {"Content-Type": "application/json"})[0])
    return found


def _measured(
    row: Row, ours: Server, peer: Server, length: Length, *, clients: tuple[int, ...] = CLIENTS
) -> dict[str, Any]:
    """Measures both in turns, with each number of clients."""
    sides = {"ours": (ours, row.ours), "peer": (peer, row.peer)}
    found: dict[str, dict[str, Any]] = {"ours": {}, "peer": {}}
    idle = []
    for count in clients:
        rounds: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
        for _ in range(length.rounds):
            for name, (server, requests) in sides.items():
                before, began, resting = server.cpu_seconds(), time.monotonic(), ours.cpu_seconds()
                one = _load(server.port, count, requests, length.seconds)
                spent = time.monotonic() - began
                one["cpu_ms"] = 1000 * (server.cpu_seconds() - before) / one["sent"]
                rounds[name].append(one)
                if name == "peer":
                    idle.append((ours.cpu_seconds() - resting) / spent)
        for name, some in rounds.items():
            keys = ("per_second", "p50_ms", "p99_ms", "cpu_ms")
            found[name][str(count)] = {key: round(statistics.median(one[key] for one in some), 3) for key in keys}
    return {**row.about, **found, "idle_cpus": round(statistics.median(idle), 3)}


def _load(port: int, clients: int, requests: list[bytes], seconds: float) -> dict[str, Any]:
    """Lets clients call for a while, in a process of their own."""
    task = {"port": port, "clients": clients, "seconds": seconds, "warm": 1.0}
    task["requests"] = [base64.b64encode(one).decode() for one in requests]
    command = [sys.executable, "-m", "tests.benchmarks.serving.load"]
    done = subprocess.run(
        command, input=json.dumps(task) + "\n", stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["refused"] or not found["answers"]:
        raise DifferentWorkError(f"not every request was answered, with {clients} clients: {found}")
    return found
