"""One record has one answer, whatever protocol, datatype, batch and version path it comes by."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import httpx2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.api import create_api
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.server import start_grpc
from serve.grpc_.service import SERVICE
from serve.inputs.binary import HEADER
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

VERSIONS = ("", "1", "2")
KINDS = {"FP32": "<f4", "FP64": "<f8"}
Answer = tuple[np.ndarray, list[int]]
"""Probabilities, and classes."""


class Server:
    """REST and gRPC over the same models, in one event loop, as a replica runs them."""

    def __init__(self, finished: Finished) -> None:
        self.finished = finished
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        loaded = Loaded([bring_online(finished, name="standard", version=version) for version in VERSIONS[1:]])
        api = create_api(loaded, public=False)
        transport = httpx2.ASGITransport(api, client=("127.0.0.1", 5000))
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000")
        self._grpc = self._wait(start_grpc(loaded, "127.0.0.1", 0))
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._grpc.port}")

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self._channel.close()
        self._wait(self._grpc.stop(0))
        self._wait(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def post(self, path: str, body: Any, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._wait(self._client.post(path, content=content, headers=headers))
        assert answer.status_code == 200, answer.text
        return answer

    def v1(self, x: np.ndarray, version: str, call: str) -> Any:
        path = f"/v1/models/standard{version and f'/versions/{version}'}:{call}"
        return self.post(path, {"instances": x.tolist()}).json()

    def predict(self, x: np.ndarray, version: str) -> Answer:
        """By KServe's first protocol."""
        found = self.v1(x, version, "predict")["predictions"]
        return np.array([[*one["probabilities"].values()] for one in found]), [one["class_index"] for one in found]

    def infer(self, x: np.ndarray, version: str, datatype: str, sent: str, got: str) -> Answer:
        """By the Open Inference Protocol over REST; ``sent`` and ``got`` are ``flat``, ``nested`` or ``binary``."""
        path = f"/v2/models/standard{version and f'/versions/{version}'}/infer"
        tensor: dict[str, Any] = {"name": "records", "shape": list(x.shape), "datatype": datatype}
        raw = x.astype(KINDS[datatype]).tobytes() if sent == "binary" else b""
        own = {"flat": {"data": x.ravel().tolist()}, "nested": {"data": x.tolist()}}
        tensor |= own.get(sent, {"parameters": {"binary_data_size": len(raw)}})
        about = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": got == "binary"}}).encode()
        headers = {HEADER: str(len(about))} if sent == "binary" else {}
        answer = self.post(path, about + raw, **headers)
        if got != "binary":
            probabilities, classes = answer.json()["outputs"]
            return np.reshape(probabilities["data"], probabilities["shape"]), classes["data"]
        rest = answer.content[int(answer.headers[HEADER]) :]
        found, index = rest[: 8 * len(x)], rest[8 * len(x) :]
        return np.frombuffer(found, "<f4").reshape(-1, 2), np.frombuffer(index, "<i8").tolist()

    def call(self, x: np.ndarray, version: str, datatype: str, raw: bool) -> Answer:
        """By the Open Inference Protocol over gRPC."""
        tensor: dict[str, Any] = {"name": "records", "datatype": datatype, "shape": x.shape}
        if not raw:
            tensor["contents"] = {f"{datatype.lower()}_contents": x.ravel()}
        request = pb.ModelInferRequest(
            model_name="standard",
            model_version=version,
            inputs=[tensor],
            raw_input_contents=[x.astype(KINDS[datatype]).tobytes()] if raw else [],
        )
        ask = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = ask(request, timeout=30)
        if raw:
            found, classes = answer.raw_output_contents
            return np.frombuffer(found, "<f4").reshape(-1, 2), np.frombuffer(classes, "<i8").tolist()
        probabilities, index = answer.outputs
        return np.reshape(probabilities.contents.fp32_contents, (-1, 2)), list(index.contents.int64_contents)

    def everywhere(self, x: np.ndarray) -> Iterator[tuple[str, Answer]]:
        """The answers of every way, each with its name."""
        for version in VERSIONS:
            yield f"V1 {version}", self.predict(x, version)
            for datatype in KINDS:
                for sent, got in (("flat", "flat"), ("nested", "binary"), ("binary", "flat"), ("binary", "binary")):
                    yield f"V2 {version} {datatype} {sent} {got}", self.infer(x, version, datatype, sent, got)
                for raw in (True, False):
                    yield f"gRPC {version} {datatype} {raw}", self.call(x, version, datatype, raw)


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Server]:
    running = Server(open_finished(store, recipe="standard"))
    yield running
    running.stop()


SHARES = st.integers(1, 5).flatmap(lambda n: arrays(np.float32, (n, 30), elements=st.floats(0, 1, width=32)))
"""Places of values between the least and the greatest of the records."""


@given(shares=SHARES)
@settings(max_examples=5)
def test_a_record_has_one_answer(server: Server, shares: np.ndarray) -> None:
    low, high = server.finished.dataset.x.min(0), server.finished.dataset.x.max(0)
    x = low + shares * (high - low)
    logits = server.finished.model(torch.from_numpy(x)).detach().numpy().astype(np.float64)
    exact = np.exp(logits - logits.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    for way, (probabilities, classes) in server.everywhere(x):
        np.testing.assert_allclose(probabilities, exact, atol=1e-6, err_msg=way)
        margin = np.abs(exact[:, 1] - exact[:, 0]) > 1e-5
        assert np.array_equal(np.array(classes)[margin], exact.argmax(1)[margin]), way


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_record_has_one_explanation(server: Server, count: int) -> None:
    x = server.finished.dataset.x[server.finished.split.test[:count]]
    alone = [server.v1(row[None], "", "explain")["explanations"][0] for row in x]
    expected = np.array([one["attributions"] for one in alone])
    for version in VERSIONS:
        found = server.v1(x, version, "explain")["explanations"]
        np.testing.assert_allclose([one["attributions"] for one in found], expected, atol=1e-4)
        whole = server.v1(x, version, "answer")["answers"]
        np.testing.assert_allclose([one["explanation"]["attributions"] for one in whole], expected, atol=1e-4)
        assert [one["class_name"] for one in found] == [one["class_name"] for one in whole]


def test_warnings_come_with_every_protocol(server: Server) -> None:
    low, high = server.finished.dataset.x.min(0), server.finished.dataset.x.max(0)
    x = np.zeros((2, 30), np.float32)
    x[1, 0] = high[0] + 2 * (high[0] - low[0])
    (warning,) = server.v1(x, "", "predict")["predictions"][1]["warnings"]
    tensor = {"name": "records", "shape": [2, 30], "datatype": "FP32", "data": x.ravel().tolist()}
    answer = server.post("/v2/models/standard/infer", {"inputs": [tensor]}).json()
    assert answer["parameters"] == {"warnings": f"record 1: {warning}"}
