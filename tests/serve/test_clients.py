"""Clients that others wrote call the server unchanged: tritonclient and KServe's, over HTTP and gRPC.

Each lives in an environment of its own, which ``make peers-serve`` makes; without it, its tests are skipped. The wire
format of gRPC is compared with theirs, too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.grpc_ import open_inference_pb2 as pb

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
TRITON, KSERVE = "triton", "kserve"
FIELDS = """
import importlib, json, sys
found = {}
def read(kind):
    found[kind.full_name] = {one.name: [one.number, one.type, one.is_repeated] for one in kind.fields}
    for inner in kind.nested_types:
        read(inner)
module = importlib.import_module(sys.argv[1])
for kind in module.DESCRIPTOR.message_types_by_name.values():
    read(kind)
calls = module.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
print(json.dumps({"messages": found, "calls": {
    one.full_name: [one.input_type.full_name, one.output_type.full_name] for one in calls}}))
"""
"""Prints the messages and calls of a generated module."""


def python_of(peer: str) -> str:
    """The Python of an environment; skips the test where it is absent."""
    python = ROOT / f".venv-peers-{peer}" / "bin" / "python"
    if not python.exists():
        pytest.skip("make peers-serve makes the environment of this client")
    return str(python)


def fields_of(python: str, module: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [python, "-c", FIELDS, module], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout)


@pytest.mark.parametrize(
    ("peer", "module"),
    [(TRITON, "tritonclient.grpc.service_pb2"), (KSERVE, "kserve.protocol.grpc.grpc_predict_v2_pb2")],
)
def test_messages_have_the_names_and_numbers_of_the_protocol(peer: str, module: str) -> None:
    theirs = fields_of(python_of(peer), module)
    ours = fields_of(sys.executable, pb.__name__)
    shared = ours["messages"].keys() & theirs["messages"].keys()
    assert len(shared) >= 20
    for name in shared:
        fields = theirs["messages"][name]
        assert fields == {field: about for field, about in ours["messages"][name].items() if field in fields}
        assert peer != TRITON or fields.keys() == ours["messages"][name].keys()
    calls = ours["calls"].keys() & theirs["calls"].keys()
    assert calls >= {f"inference.GRPCInferenceService.{name}" for name in ("ModelInfer", "ModelMetadata", "ModelReady")}
    assert all(ours["calls"][name] == theirs["calls"][name] for name in calls)
    assert peer != TRITON or calls == ours["calls"].keys()


@dataclass(frozen=True)
class Running:
    """A running server, with records and the probabilities of its model in files."""

    rest: str
    rpc: str
    records: Path
    expected: Path


@pytest.fixture(scope="module")
def server(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Plain uvicorn, and gRPC, in a process of their own."""
    folder = tmp_path_factory.mktemp("clients")
    finished = open_finished(Store(str(results)), recipe="standard")
    rows = finished.split.test[:20]
    np.save(folder / "records.npy", finished.dataset.x[rows])
    np.save(folder / "expected.npy", softmax(finished.subject.logits(rows), 1))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(
            [sys.executable, CLIENTS / "server.py", results],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        assert len(ports) == 2, (folder / "errors").read_text()
        rest, rpc = (f"127.0.0.1:{port}" for port in ports)
        yield Running(rest, rpc, folder / "records.npy", folder / "expected.npy")
        process.terminate()
    assert "Traceback" not in (folder / "errors").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "script", "protocol"),
    [
        (TRITON, "triton.py", "http"),
        (TRITON, "triton.py", "grpc"),
        (KSERVE, "kserve_sdk.py", "rest"),
        (KSERVE, "kserve_sdk.py", "grpc"),
    ],
)
def test_an_unchanged_client_gets_the_answers_of_the_model(
    request: pytest.FixtureRequest, peer: str, script: str, protocol: str
) -> None:
    python = python_of(peer)
    running: Running = request.getfixturevalue("server")
    address = running.rpc if protocol == "grpc" else running.rest
    told = subprocess.run(
        [python, CLIENTS / script, protocol, address, running.records, running.expected],
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert told.stdout.endswith("done\n"), told.stderr[-4000:]
