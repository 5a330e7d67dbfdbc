"""The figures for Prometheus count what happened, and no label holds anything of a request."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.api import create_api
from serve.auth.tokens import add_token
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online
from serve.routers.metrics import Metrics

PREDICT = "/v1/models/standard:predict"
SECRET = "Ada Lovelace"


@pytest.fixture
def client(store: Store) -> TestClient:
    online = bring_online(open_finished(store, recipe="standard"), name="standard", version="1")
    api = create_api(Loaded([online]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    """All figures, by their names and the values of their labels, in the order of the labels' names."""
    text = client.get("/metrics").text
    assert SECRET not in text and "Ada" not in text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_times_and_batches_are_counted(client: TestClient) -> None:
    for count in (1, 1, 30):
        assert client.post(PREDICT, json={"instances": [[0.0] * 30] * count}).status_code == 200
    client.post("/v1/models/standard:explain", json={"instances": [[0.0] * 30] * 5})
    found = figures(client)
    assert found["assay_serve_calls_total", "predict", "standard", "200"] == 3
    assert found["assay_serve_seconds_count", "predict", "standard"] == 3
    assert 0 < found["assay_serve_seconds_sum", "predict", "standard"] < 60
    for most, count in (("1.0", 2), ("16.0", 2), ("32.0", 3), ("+Inf", 3)):
        assert found["assay_serve_batch_records_bucket", most, "standard", "1", "predict"] == count
    assert found["assay_serve_batch_records_sum", "standard", "1", "predict"] == 32
    assert found["assay_serve_batch_records_sum", "standard", "1", "explain"] == 5
    assert found["assay_serve_waiting_records", "standard", "1", "predict"] == 0


def test_refusals_are_counted_by_their_reasons_and_repeat_nothing(client: TestClient) -> None:
    client.post(PREDICT, json={"instances": [[SECRET] * 30]})
    client.post(PREDICT, content=b"{")
    client.post(PREDICT, json={"instances": [[0.0] * 30], SECRET: 1})
    client.post(f"/v1/models/{SECRET}:predict", json={"instances": [[0.0] * 30]})
    client.get(f"/{SECRET}/{SECRET}")
    client.get(PREDICT)
    client.post(PREDICT, content=b"[" + b"1," * (1 << 20) + b"1]")
    client.post(PREDICT, content=b"a=1", headers={"content-type": "application/x-www-form-urlencoded"})
    client.get("/v2", headers={"host": "attacker.example"})
    found = {key[1]: value for key, value in figures(client).items() if key[0] == "assay_serve_refusals_total"}
    expected = {
        "not_a_number": 1, "not_json": 1, "invalid": 1, "unknown": 2, "wrong_method": 1, "too_long": 1,
        "content_type": 1, "not_allowed": 1,
    }  # fmt: skip
    assert found == expected


def test_figures_are_those_of_the_service_alone(client: TestClient) -> None:
    client.get("/v2")
    names = {key[0] for key in figures(client)}
    assert names and all(name.startswith("assay_serve_") for name in names)


def test_a_file_of_tokens_that_lets_nobody_in_shows(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    add_token(file, "ward-3", scopes=["predict"], days=None)
    registry = Metrics(Loaded(), tokens=str(file)).registry
    assert registry.get_sample_value("assay_serve_tokens_usable") == 1
    file.chmod(0o644)
    assert registry.get_sample_value("assay_serve_tokens_usable") == 0
    file.unlink()
    assert registry.get_sample_value("assay_serve_tokens_usable") == 0
    assert Metrics(Loaded()).registry.get_sample_value("assay_serve_tokens_usable") is None


def test_a_reason_that_is_no_code_is_not_a_label() -> None:
    metrics = Metrics(Loaded())
    for reason in ("Ada Lovelace", "a" * 99, "é", ""):
        metrics.observe("predict", "", 422, 0.1, reason)
    assert metrics.registry.get_sample_value("assay_serve_refusals_total", {"reason": "invalid"}) == 4
