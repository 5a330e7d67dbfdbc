"""Every call of the served model, its limits, and that no error repeats what was sent."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from scipy.special import softmax

from assay.bounds.interval import certified_by_intervals
from assay.report.card import card_of
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.spec import Study
from assay.threats import Threat
from serve.api import create_api
from serve.limits.settings import Limits
from serve.model import ServedModel
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

V1, V2 = "/v1/models/standard", "/v2/models/standard"
SECRET = "Ada Lovelace"


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def client(finished: Finished) -> TestClient:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def x(finished: Finished) -> np.ndarray:
    """Five test records."""
    return finished.dataset.x[finished.split.test[:5]]


@pytest.fixture
def expected(finished: Finished, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return finished.model(torch.from_numpy(x)).softmax(1).numpy()


def test_predictions_are_those_of_the_model(client: TestClient, x: np.ndarray, expected: np.ndarray) -> None:
    answer = client.post(f"{V1}:predict", json={"instances": x.tolist()})
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [list(one["probabilities"].values()) for one in found] == expected.tolist()
    assert [one["class_index"] for one in found] == expected.argmax(1).tolist()
    assert {one["class_name"] for one in found} <= {"benign", "malignant"}


def test_a_model_that_was_judged_at_an_operating_point_answers_there(finished: Finished) -> None:
    task = {"name": "classification", "decide_at": "operating_point", "sensitivity": 0.8}
    asked = finished.study.model_dump(mode="json")
    asked["cohorts"]["wdbc"] |= {"task": task, "evaluations": ["certificates"], "selected_evaluations": []}
    online = bring_online(replace(finished, study=Study.model_validate(asked)), name="standard")
    served = online.model
    scores = softmax(finished.subject.logits(finished.split.validation), 1)[:, 1]
    positive = finished.dataset.y[finished.split.validation] == 1
    threshold = np.sort(scores[positive])[::-1][math.ceil(0.8 * positive.sum()) - 1]
    assert served.threshold == pytest.approx(threshold)
    api = create_api(Loaded([online]), public=False)
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    assert client.get(V2).json()["threshold"] == served.threshold
    x = finished.dataset.x[finished.split.test[:200]]
    said = client.post(f"{V1}:predict", json={"instances": x.tolist()}).json()["predictions"]
    told = [one["class_index"] for one in said]
    assert told == [int(one["probabilities"]["malignant"] >= threshold) for one in said]
    assert any(one["probabilities"]["malignant"] > 0.5 and not one["class_index"] for one in said)
    tensor = {"name": "records", "shape": list(x.shape), "datatype": "FP32", "data": x.flatten().tolist()}
    assert client.post(f"{V2}/infer", json={"inputs": [tensor]}).json()["outputs"][1]["data"] == told
    proven = client.post(f"{V1}:certify", json={"instances": x.tolist(), "epsilons": [0.0, 0.5]}).json()["certificates"]
    names = [one["class_name"] for one in said]
    assert [one["class_name"] for one in proven] == names and all(one["certified"][0] for one in proven)
    explained = client.post(f"{V1}:explain", json={"instances": x[:3].tolist()}).json()["explanations"]
    assert [one["class_name"] for one in explained] == names[:3]
    asked = {"instances": x[:32].tolist(), "explain": False}
    for one in client.post(f"{V1}:answer", json=asked).json()["answers"]:
        assert one["class_name"] in one["prediction_set"].get("classes", [one["class_name"]])


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_the_open_inference_protocol_gives_the_same(
    client: TestClient, x: np.ndarray, expected: np.ndarray, nested: bool, datatype: str
) -> None:
    data = x.tolist() if nested else x.flatten().tolist()
    tensor = {"name": "records", "shape": list(x.shape), "datatype": datatype, "data": data}
    answer = client.post(f"{V2}/infer", json={"id": "call 7", "inputs": [tensor]}).json()
    assert (answer["id"], answer["model_name"]) == ("call 7", "standard")
    probabilities, index = answer["outputs"]
    assert (probabilities["name"], probabilities["shape"]) == ("probabilities", [5, 2])
    # The shortest decimals that round to the same float32.
    np.testing.assert_array_equal(np.float32(np.reshape(probabilities["data"], (5, 2))), expected)
    assert index["data"] == expected.argmax(1).tolist()
    wanted = {"inputs": [tensor], "outputs": [{"name": "class_index"}]}
    assert [out["name"] for out in client.post(f"{V2}/infer", json=wanted).json()["outputs"]] == ["class_index"]


@pytest.mark.parametrize("method", ["integrated_gradients", "shap"])
def test_attributions_add_up(client: TestClient, x: np.ndarray, method: str) -> None:
    answer = client.post(f"{V1}:explain", json={"instances": x.tolist(), "method": method})
    assert answer.status_code == 200, answer.text
    for one in answer.json()["explanations"]:
        assert np.shape(one["attributions"]) == (30,)
        assert np.abs(one["attributions"]).sum() > 0.1
        assert one["error"] < 2e-2


def test_certificates_are_those_of_the_bounds(client: TestClient, finished: Finished, x: np.ndarray) -> None:
    radii = [0.0, 0.01, 0.05, 1.0]
    answer = client.post(f"{V1}:certify", json={"instances": x.tolist(), "epsilons": radii}).json()
    records = torch.from_numpy(x)
    target = finished.model(records).argmax(1)
    for place, epsilon in enumerate(radii):
        threat = Threat(norm="linf", epsilon=epsilon, bounds=finished.dataset.bounds)
        proven = certified_by_intervals(finished.model, records, target, threat).tolist()
        assert [one["certified"][place] for one in answer["certificates"]] == proven
    found = np.array([one["certified"] for one in answer["certificates"]])
    assert found[:, 0].all() and not found[:, -1].all()
    by_default = client.post(f"{V1}:certify", json={"instances": x.tolist()}).json()["epsilons"]
    assert by_default == list(finished.dataset.epsilons)


def test_metadata_say_what_a_record_is(client: TestClient, finished: Finished) -> None:
    found = client.get(V2).json()
    assert found["inputs"] == [{"name": "records", "datatype": "FP32", "shape": [-1, 30]}]
    assert (found["versions"], found["artefact"]) == ([finished.trial], finished.artefact)
    assert found["feature_names"][0] == "mean radius"
    assert found["low"] == finished.dataset.low.tolist()
    assert (found["explanations"], found["certificates"]) == (["integrated_gradients", "shap"], True)


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/health/ready", f"{V2}/ready", V1, "/v1/models", "/openapi.json", "/docs"]
)
def test_health_and_description_answer(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_card_says_what_was_measured_and_what_speaks_against_it(client: TestClient, finished: Finished) -> None:
    card = client.get(f"{V1}/card").json()
    assert card["trial"] == finished.trial
    assert "fold 1 of 2" in card["artefact"]
    accuracy = next(one for one in card["evidence"] if one["title"] == "Accuracy")
    own = finished.own
    assert accuracy["value"] == own[own["name"] == "accuracy"]["value"].item()
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert "not private" in card["privacy"]
    page = client.get(f"{V1}/card?html=true")
    assert page.headers["content-type"].startswith("text/html")
    assert "Evidence" in page.text


def tensor(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30, **changed}]}


REFUSED: list[tuple[str, Any, int, str]] = [
    (f"{V1}:predict", {"instances": [[SECRET] * 30]}, 422, "something else than finite numbers"),
    (f"{V1}:predict", {"instances": [["0.5"] * 30]}, 422, "something else than finite numbers"),
    (f"{V1}:predict", {"instances": [[True] * 30]}, 422, "something else than finite numbers"),
    (f"{V1}:predict", {"instances": [[None] * 30]}, 422, "something else than finite numbers"),
    (f"{V1}:predict", {"instances": [[0.0] * 29]}, 422, "record 0 is not of the shape that the model takes"),
    (f"{V1}:predict", {"instances": [[0.0] * 30, [0.0]]}, 422, "record 1 is not of the shape that the model takes"),
    (f"{V1}:predict", {"instances": []}, 422, "instances"),
    (f"{V1}:predict", {"instances": [[0.0] * 30] * 257}, 422, "at most 256 records a call; 257 were sent"),
    (
        f"{V1}:predict",
        {"instances": [[0.0] * 29 + [4321.5]]},
        422,
        "'worst fractal dimension' is not a number",
    ),
    (f"{V1}:predict", {"instances": [[1e300] * 30]}, 422, "'mean radius' is not a number from"),
    (f"{V1}:predict", {"instances": [[0.0] * 30], SECRET: 1}, 422, "holds a key that is not allowed"),
    (f"{V1}:predict", {SECRET: [[0.0] * 30]}, 422, "instances: Field required"),
    (f"{V1}:predict", [SECRET], 422, "the body"),
    (f"{V1}:explain", {"instances": [[0.0] * 30], "method": SECRET}, 422, "'integrated_gradients' or 'shap'"),
    (f"{V1}:explain", {"instances": [[0.0] * 30] * 33, "method": "shap"}, 422, "at most 32 records"),
    (f"{V1}:certify", {"instances": [[0.0] * 30], "epsilons": [-4321.5]}, 422, "greater than or equal to 0"),
    (f"{V1}:certify", {"instances": [[0.0] * 30], "epsilons": [0.1] * 33}, 422, "at most 32"),
    (f"{V2}/infer", tensor(shape=[1, 29]), 422, "shape must be [records, 30]"),
    (f"{V2}/infer", tensor(shape=[2, 30]), 422, "as many numbers as shape says"),
    (f"{V2}/infer", tensor(data=[0.0] * 31), 422, "as many numbers as shape says"),
    (f"{V2}/infer", tensor(data=[]), 422, "as many numbers as shape says"),
    (f"{V2}/infer", tensor(name=SECRET), 422, "'records'"),
    (f"{V2}/infer", tensor(datatype="INT8"), 422, "'FP32', 'FP64' or 'BYTES'"),
    (f"/v1/models/{SECRET}:predict", {"instances": [[0.0] * 30]}, 404, "this server has 'standard'"),
    (f"/v3/{SECRET}", {}, 404, "nothing at this path"),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), REFUSED)
def test_an_error_says_what_is_allowed_and_not_what_was_sent(
    client: TestClient, path: str, body: Any, status: int, said: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert {"error"} <= set(answer.json()) <= {"error", "reason"}
    assert said in answer.json()["error"]
    for sent in (SECRET, "4321.5", "1e+300"):
        assert sent not in answer.text


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"instances": [["Ada Lovelace"', 400),
        (b"\xff\xfe\x00", 400),
        (b'{"instances": [[' + b"NaN," * 29 + b"NaN]]}", 400),
        (b"[" + b"1," * (Limits().body // 2) + b"1]", 413),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(client: TestClient, content: bytes, status: int) -> None:
    answer = client.post(f"{V1}:predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert SECRET not in answer.text


def test_a_body_of_unannounced_length_is_cut_off(client: TestClient) -> None:
    def endless() -> Any:
        while True:
            yield b"1" * 65536

    answer = client.post(f"{V1}:predict", content=(next(part) for part in [endless()] * 17))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("caller", "host", "status"),
    [
        ("127.0.0.1", "localhost:8000", 200),
        ("::1", "[::1]:8000", 200),
        ("127.0.0.1", "127.0.0.1", 200),
        ("10.0.0.7", "localhost:8000", 403),
        ("127.0.0.1", "attacker.example:8000", 403),
        ("127.0.0.1", "localhost.attacker.example", 403),
        ("testclient", "localhost", 403),
    ],
)
def test_others_are_turned_away_unless_the_model_is_public(caller: str, host: str, status: int) -> None:
    for public, wanted in ((False, status), (True, 200)):
        api = create_api(Loaded([]), public=public)
        client = TestClient(api, base_url="http://localhost", client=(caller, 5000))
        assert client.get("/v2", headers={"host": host}).status_code == wanted


def test_a_fault_of_ours_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(ServedModel, "logits", fails)
    answer = client.post(f"{V1}:predict", json={"instances": [[0.0] * 30]})
    assert (answer.status_code, SECRET in answer.text) == (500, False)


def test_a_private_model_explains_without_its_training_records(store: Store) -> None:
    private = ServedModel(open_finished(store, recipe="private"))
    assert "zeros" in private.compared_with
    assert "no privacy claim" in card_of(private.finished, "private").privacy
    released = card_of(open_finished(store, recipe="released"), "released").privacy
    assert "(3, 1e-05)-differential privacy" in released
    assert json.dumps(card_of(private.finished, "private").to_json())


def test_nothing_is_proven_of_a_record_outside_the_bounds(
    client: TestClient, finished: Finished, x: np.ndarray
) -> None:
    beyond = x[:1].copy()
    beyond[0, 0] = finished.dataset.high[0] + 0.5
    asked = {"instances": [beyond[0].tolist(), x[0].tolist()], "epsilons": [0.0, 0.1]}
    first, second = client.post(f"{V1}:certify", json=asked).json()["certificates"]
    assert first["certified"] == [False, False] and second["certified"][0]


def test_every_call_warns_of_values_outside_the_training_range(client: TestClient, x: np.ndarray) -> None:
    far = x.copy()
    far[3, 0] = 30
    for call, key in (("predict", "predictions"), ("explain", "explanations"), ("certify", "certificates")):
        found = client.post(f"{V1}:{call}", json={"instances": far.tolist()}).json()[key]
        assert "'mean radius' lies above" in found[3]["warnings"][0] and len(found) == 5, call
    headers = {"accept": "text/event-stream"}
    events = client.post(f"{V1}:explain", json={"instances": far.tolist()}, headers=headers).text
    assert events.count("'mean radius' lies above") == 1


def test_a_record_that_cannot_be_explained_gets_all_the_rest_with_the_reason(
    finished: Finished, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = bring_online(finished, name="standard")
    as_it_is = online.model.explain

    def explain(given: torch.Tensor, method: str) -> Any:
        if (given == torch.from_numpy(x[1])).flatten(1).all(1).any():
            raise RefusedError("the change to explain is 0")
        return as_it_is(given, method)

    monkeypatch.setattr(online.model, "explain", explain)
    client = TestClient(
        create_api(Loaded([online]), public=False), base_url="http://localhost:8000", client=("127.0.0.1", 5000)
    )
    answer = client.post(f"{V1}:answer", json={"instances": x.tolist()})
    assert answer.status_code == 200, answer.text
    found = [one["explanation"] for one in answer.json()["answers"]]
    assert found.pop(1) == {"not_given": "the change to explain is 0"}
    alone = client.post(f"{V1}:explain", json={"instances": np.delete(x, 1, 0).tolist()}).json()["explanations"]
    assert [one["class_name"] for one in found] == [one["class_name"] for one in alone]
    for one, other in zip(found, alone, strict=True):
        assert one["attributions"] == pytest.approx(other["attributions"], abs=1e-5)
    assert client.post(f"{V1}:explain", json={"instances": x.tolist()}).status_code == 422
