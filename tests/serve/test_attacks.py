"""Attacks on the routes of a model: what is refused costs little, says little, and what is answered is right."""

import asyncio
import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.api import create_api
from serve.limits.settings import Limits
from serve.model import ServedModel
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online

V1, V2 = "/v1/models/standard", "/v2/models/standard"
ONE = {"instances": [[0.0] * 30]}
RECORD: dict[str, Any] = {"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30}
MANY = Limits().body // 2 - 400
"""Elements of two bytes that a body has room for."""


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture
def online(store: Store) -> Online:
    return bring_online(open_finished(store, recipe="standard"), name="standard")


def client_of(*online: Online) -> TestClient:
    api = create_api(Loaded(online), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(finished: Finished) -> TestClient:
    return client_of(bring_online(finished, name="standard"))


def body_of(about: dict[str, Any], key: str, elements: bytes) -> bytes:
    """JSON in which a key has ever so many elements."""
    return json.dumps(about | {key: ["?"]}, separators=(",", ":")).encode().replace(b'["?"]', b"[%s]" % elements)


FLOODS = {
    "outputs of numbers": body_of({"inputs": [RECORD]}, "outputs", b"0," * MANY + b"0"),
    "outputs of objects": body_of({"inputs": [RECORD]}, "outputs", b"{}," * (2 * MANY // 3) + b"{}"),
    "inputs": body_of({}, "inputs", b"0," * MANY + b"0"),
    "shape": b'{"inputs":[%s]}' % body_of(RECORD, "shape", b"0," * MANY + b"0"),
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_body_of_many_faults_is_refused_in_few_words_and_little_memory(client: TestClient, case: str) -> None:
    assert 0.9 * Limits().body < len(FLOODS[case]) <= Limits().body
    tracemalloc.start()
    answer = client.post(f"{V2}/infer", content=FLOODS[case])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json().keys() - {"reason"}) == (422, {"error"})
    assert len(answer.content) <= 4096
    assert peak < 50 << 20, "of the body, its parts and the answer"


def test_eight_of_them_at_once_disturb_no_answer(client: TestClient) -> None:
    with ThreadPoolExecutor(9) as pool:
        floods = [pool.submit(client.post, f"{V2}/infer", content=one) for one in [*FLOODS.values()] * 2]
        answered = pool.submit(client.post, f"{V1}:predict", json=ONE)
        assert {one.result().status_code for one in floods} == {422}
        assert answered.result().status_code == 200


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_no_number_is_never_a_class(online: Online, value: float) -> None:
    client = client_of(online)
    next(iter(online.model.finished.model.parameters())).data.fill_(value)
    calls = {f"{V1}:{verb}": ONE for verb in ("predict", "explain", "certify", "answer")}
    for path, body in {**calls, f"{V2}/infer": {"inputs": [RECORD]}}.items():
        answer = client.post(path, json=body)
        assert 500 <= answer.status_code < 600, path
        assert "class" not in answer.text and answer.json().keys() == {"error"}
    assert client.get("/v2/health/ready").status_code == 503


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("text/plain;charset=UTF-8", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_json_needs_no_header_and_no_form_is_taken_for_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, header: str | None, status: int
) -> None:
    computed: list[int] = []
    logits = ServedModel.logits
    monkeypatch.setattr(ServedModel, "logits", lambda self, x: computed.append(len(x)) or logits(self, x))
    headers = {} if header is None else {"content-type": header}
    for path, body in ((f"{V1}:predict", ONE), (f"{V2}/infer", {"inputs": [RECORD]})):
        computed.clear()
        answer = client.post(path, content=json.dumps(body).encode(), headers=headers)
        assert (answer.status_code, bool(computed)) == (status, status == 200)
        assert status == 200 or "Content-Type: application/json" in answer.json()["error"]


@pytest.mark.parametrize("epsilon", [0.0, 5e-324, 1e-45, 1e-38, 3e38, 1e39, 1e308])
def test_a_radius_at_the_edge_of_numbers_proves_no_more_than_a_smaller_one(
    client: TestClient, finished: Finished, epsilon: float
) -> None:
    x = finished.dataset.x[finished.split.test[:20]]
    radii = [0.0, 1e-6, epsilon, 1e6]
    answer = client.post(f"{V1}:certify", json={"instances": x.tolist(), "epsilons": radii})
    assert answer.status_code == 200
    # Within the bounds of the data, every radius from 1e6 on is the same box: all valid inputs.
    for own in (np.array(one["certified"]) for one in answer.json()["certificates"]):
        order = np.argsort(radii, kind="stable")
        assert (np.diff(own[order].astype(int)) <= 0).all(), "proven for a radius is proven for every smaller one"
    assert not any(one["certified"][3] for one in answer.json()["certificates"])


@pytest.mark.parametrize("sent", ["1e400", "-1", "NaN", '"0.1"', "true", "null", "[0.1]"])
def test_what_is_no_radius_is_refused(client: TestClient, sent: str) -> None:
    body = json.dumps(ONE | {"epsilons": "?"}).replace('"?"', f"[{sent}]")
    answer = client.post(f"{V1}:certify", content=body.encode())
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "standard%00",
        "standard%0d%0aX-Y:1",
        "st\u0430ndard",
        "standard:x",
        "STANDARD",
        "standard%20",
        "%ff",
        "Ada%20Lovelace",
        "standard/versions/..%2f1",
    ],
)
def test_a_model_is_found_by_its_very_name_alone(client: TestClient, name: str) -> None:
    for method, path in (("POST", f"/v1/models/{name}:predict"), ("GET", f"/v2/models/{name}")):
        answer = client.request(method, path, content=json.dumps(ONE).encode() if method == "POST" else None)
        assert answer.status_code == 404, path
        assert answer.json().keys() == {"error"}
        assert not any(sent in answer.text for sent in ("passwd", "Ada", "\u0430", "X-Y"))


def test_a_prediction_waits_for_no_explanation_and_nobody_explains_to_callers_that_have_gone(
    online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: list[int] = []
    held, begun = threading.Event(), threading.Event()
    explain = ServedModel.explain

    def slowly(self: ServedModel, x: torch.Tensor, method: str) -> Any:
        explained.append(len(x))
        begun.set()
        held.wait(30)
        return explain(self, x[:1], method)

    monkeypatch.setattr(ServedModel, "explain", slowly)
    x = torch.zeros(32, 30)

    async def ask() -> float:
        gone = [asyncio.ensure_future(online.explain(x, "shap")) for _ in range(8)]
        await asyncio.to_thread(begun.wait, 30)
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        start = time.monotonic()
        logits = await asyncio.wait_for(online.logits(x[:1]), 10)
        assert logits.shape == (1, 2)
        seconds = time.monotonic() - start
        held.set()
        await online.explain(x[:1], "shap")
        return seconds

    asyncio.run(ask())
    assert explained == [32, 1], "of eight calls one had begun; the others were dropped"
