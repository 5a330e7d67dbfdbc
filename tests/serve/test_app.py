"""The application as ``serve run`` starts it, called over HTTP."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click import ClickException
from ray import serve as ray_serve

from assay.data.base import Dataset
from serve.app import build_app, start_here
from serve.auth.settings import SCOPES
from serve.auth.tokens import add_token
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.service import SERVICE
from serve.settings import read_settings

ROOT = Path(__file__).parents[2]
PORT = 18123


@dataclass(frozen=True)
class Server:
    """A running service."""

    url: str
    token: str


pytestmark = pytest.mark.usefixtures("cluster_environment_not_checked")


@pytest.fixture(scope="module")
def server(results: Path, shared_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The application, run on the Ray that tests share."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    asked = {"results": str(results), "recipe": "standard", "port": str(PORT), "tokens": str(file)}
    with pytest.raises(ClickException, match="no file of tokens"):
        build_app(asked)
    token = add_token(file, "ward", scopes=SCOPES, days=None)
    application = build_app(asked)
    with pytest.MonkeyPatch.context() as patch:
        # All that the application does where no Ray runs yet, but for starting one.
        patch.setattr("serve.local.start_ray_here", lambda **settings: None)
        patch.setattr(os, "environ", dict(os.environ))
        start_here(read_settings(asked), haproxy=False)
    ray_serve.run(application)
    yield Server(f"http://127.0.0.1:{PORT}", token)
    ray_serve.shutdown()


@pytest.fixture(scope="module")
def started(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``serve run``, in a process group of its own, at another port."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [
        str(Path(sys.executable).parent / "serve"), "run", "serve.app:build_app",
        f"results={results}", "recipe=standard", f"port={PORT + 1}", f"grpc_port={PORT + 2}",
        f"tokens={tmp_path_factory.mktemp('tokens') / 'tokens.json'}",
    ]  # fmt: skip
    said = tmp_path_factory.mktemp("serve") / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=file, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{PORT + 1}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, f"serve run ended; it said:\n{said.read_text()}"
                time.sleep(0.5)
        (token,) = re.findall(rf"open http://localhost:{PORT + 1}/\?token=(\S+)", said.read_text())
        yield Server(url, token)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    if server.token:
        headers["authorization"] = f"Bearer {server.token}"
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_the_model_answers_over_http_on_the_loopback_interface_only(server: Server, wdbc: Dataset) -> None:
    answers(server, wdbc)
    is_on_loopback(PORT)


@pytest.mark.slow
def test_so_it_does_when_serve_run_starts_it(started: Server, wdbc: Dataset) -> None:
    answers(started, wdbc)
    is_on_loopback(PORT + 1)


@pytest.mark.slow
def test_serve_run_offers_grpc_on_the_loopback_interface_only(started: Server, wdbc: Dataset) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="records", datatype="FP32", shape=[2, 30])
    given = pb.ModelInferRequest(model_name="standard", inputs=[tensor], raw_input_contents=[wdbc.x[:2].tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{PORT + 2}") as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        with pytest.raises(grpc.RpcError) as caught:
            infer(given, timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answer = infer(given, timeout=30, metadata=[("authorization", f"Bearer {started.token}")])
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    _, by_http = post(started, "/v1/models/standard:predict", {"instances": wdbc.x[:2].tolist()})
    expected = [list(one["probabilities"].values()) for one in by_http["predictions"]]
    assert found.reshape(2, 2) == pytest.approx(np.array(expected), abs=1e-6)
    is_on_loopback(PORT + 2)


@pytest.mark.slow
def test_serve_run_asks_for_a_token(started: Server) -> None:
    assert post(replace(started, token=""), "/v1/models/standard:predict", {"instances": [[0.0] * 30]})[0] == 401
    assert post(started, "/v1/models/standard:predict", {"instances": [[0.0] * 30]})[0] == 200


def answers(server: Server, wdbc: Dataset) -> None:
    records = wdbc.x[:3].tolist()
    model = "/v1/models/standard"
    for call, key in (("predict", "predictions"), ("explain", "explanations"), ("certify", "certificates")):
        status, answer = post(server, f"{model}:{call}", {"instances": records})
        assert (status, len(answer[key])) == (200, 3)
    tensor = {"name": "records", "shape": [3, 30], "datatype": "FP32", "data": wdbc.x[:3].flatten().tolist()}
    status, answer = post(server, "/v2/models/standard/infer", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["shape"]) == (200, [3, 2])
    assert post(server, f"{model}:predict", {"instances": [["Ada"] * 30]})[0] == 422
    assert status_of_a_long_body(server, f"{model}:predict") == 413
    described = urllib.request.Request(
        f"{server.url}/openapi.json", headers={"authorization": f"Bearer {server.token}"}
    )
    with urllib.request.urlopen(described, timeout=10) as answer:
        assert "/v2/models/{name}/infer" in json.load(answer)["paths"]


def status_of_a_long_body(server: Server, path: str) -> int:
    """The answer comes before all is sent: HAProxy reads no more than it must."""
    host = urllib.parse.urlsplit(server.url)
    calling = http.client.HTTPConnection(str(host.hostname), host.port, timeout=30)
    body = json.dumps({"instances": [[0.0] * 30] * 20000})
    headers = {"content-type": "application/json", "authorization": f"Bearer {server.token}"}
    with closing(calling):
        with suppress(BrokenPipeError, ConnectionResetError):
            calling.request("POST", path, body, headers)
        return calling.getresponse().status


def is_on_loopback(port: int) -> None:
    """No socket listens on this port but one of 127.0.0.1; gRPC writes that as an address of IPv6."""
    tables = ("/proc/net/tcp", "/proc/net/tcp6")
    sockets = [line.split() for table in tables for line in Path(table).read_text().splitlines()[1:]]
    addresses = {
        one[1].removesuffix(f":{port:04X}") for one in sockets if one[3] == "0A" and one[1].endswith(f":{port:04X}")
    }
    assert len(addresses) == 1
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
