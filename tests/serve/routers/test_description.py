"""The description of all calls is complete and right, and its page loads nothing from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.api import create_api
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online
from tests.serve.pages import Served

CALLS = {"predict", "explain", "certify", "answer"}
SECRET = "Ada Lovelace"


@pytest.fixture(scope="module")
def versions(store: Store) -> list[Online]:
    finished = open_finished(store, recipe="standard")
    return [bring_online(finished, name="standard", version=version) for version in ("1", "2")]


@pytest.fixture(scope="module")
def client(versions: list[Online]) -> TestClient:
    api = create_api(Loaded(versions), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


def parts(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a tree with its value."""
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from parts(value)
    if isinstance(tree, dict):
        yield from tree.items()


def test_the_description_is_valid_and_every_reference_leads_somewhere(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    validate(described)
    components = described["components"]["schemas"]
    references = {value for key, value in parts(described) if key == "$ref"}
    assert len(references) > 20
    assert {one.rpartition("/")[2] for one in references} <= components.keys()
    assert all(one.startswith("#/components/schemas/") for one in references)
    assert not any(key == "$defs" for key, _ in parts(described))
    identifiers = [call["operationId"] for path in described["paths"].values() for call in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_every_call_is_described_with_its_body_and_its_errors(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    for call in CALLS:
        for path in (f"/v1/models/{{name}}:{call}", f"/v1/models/{{name}}/versions/{{version}}:{call}"):
            about = paths[path]["post"]
            assert "instances" in about["requestBody"]["content"]["application/json"]["schema"]["properties"]
            assert {"200", "400", "404", "413", "422", "503"} <= about["responses"].keys()
            assert {one["name"] for one in about["parameters"]} == set(re.findall("{(.*?)}", path))
    infer = paths["/v2/models/{name}/versions/{version}/infer"]["post"]
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert set(infer["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert "Inference-Header-Content-Length" in {one["name"] for one in infer["parameters"]}
    assert described["security"] == [{}, {"token": []}]
    # Asked twice, and of another application, it is the same.
    assert client.get("/openapi.json").json() == described


def test_every_described_path_is_there(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    for path, calls in described["paths"].items():
        filled = path.replace("{name}", "standard").replace("{version}", "2")
        for method in calls:
            status = client.request(method.upper(), filled).status_code
            assert status not in (404, 405, 500), (method, filled, status)
            assert method != "get" or status == 200


def test_each_advertised_version_has_paths(client: TestClient) -> None:
    about = client.get("/v2/models/standard").json()
    assert about["versions"] == ["1", "2"]
    record = {"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30}
    for version in about["versions"]:
        own = f"/v2/models/standard/versions/{version}"
        assert client.get(own).status_code == client.get(f"{own}/ready").status_code == 200
        assert client.post(f"{own}/infer", json={"inputs": [record]}).json()["model_version"] == version
        for call in CALLS:
            answer = client.post(f"/v1/models/standard/versions/{version}:{call}", json={"instances": [[0.0] * 30]})
            assert answer.json()["model_version"] == version


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        *[("GET", f"/v1/models/standard:{call}", 405, "POST") for call in sorted(CALLS)],
        ("GET", "/v1/models/standard/versions/1:predict", 405, "POST"),
        ("PUT", "/v1/models/standard:predict", 405, "GET, HEAD, POST"),
        ("GET", "/v2/models/standard/infer", 405, "POST"),
        ("POST", "/v2/models/standard", 405, "GET"),
        ("POST", "/v2/health/live", 405, "GET"),
        ("GET", f"/v1/models/{SECRET}:predict", 405, "POST"),
        ("GET", f"/v1/models/standard:{SECRET}", 404, None),
        ("GET", "/v2/models/standard/", 404, None),
        ("GET", f"/{SECRET}", 404, None),
        ("GET", f"/docs/{SECRET}", 404, None),
        ("GET", "/docs/..%2f..%2fetc%2fpasswd", 404, None),
        ("GET", "/redoc", 404, None),
        ("POST", f"/v2/repository/models/{SECRET}/load", 403, None),
        ("POST", "/v2/repository/models/standard/unload", 403, None),
    ],
)
def test_another_method_or_path_is_told_so_without_an_echo(
    client: TestClient, method: str, path: str, status: int, allowed: str | None
) -> None:
    answer = client.request(method, path, follow_redirects=False)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allowed)
    assert answer.json().keys() == {"error"} and "Ada" not in answer.text


def test_the_repository_lists_what_may_be_called(client: TestClient) -> None:
    for body in (b"", b'{"ready": true}', b"{}"):
        entries = client.post("/v2/repository/index", content=body).json()
        assert [(one["name"], one["version"], one["state"]) for one in entries] == [
            ("standard", "1", "READY"),
            ("standard", "2", "READY"),
        ]
    assert client.post("/v2/repository/index", content=b'{"all": 1}').status_code == 422
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]


def test_the_page_has_all_its_files_here(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(files) == 4 and "http" not in page.text and "<script>" not in page.text
    for file in files:
        answer = client.get(f"/{file}")
        assert answer.status_code == 200 and len(answer.content) > 100
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
def test_the_page_shows_the_calls_in_a_browser(browser: Any, versions: list[Online]) -> None:
    served = Served(*versions)
    try:
        asked, errors = list[str](), list[str]()
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served.address + "docs")
        page.wait_for_selector(".opblock-summary-path")
        shown = page.locator(".opblock-summary-path").all_inner_texts()
        assert len(shown) >= 20 and any("infer" in one for one in shown)
        page.locator(".opblock-summary-path", has_text=re.compile(r"^/v2$")).click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.wait_for_selector(".live-responses-table")
        assert "binary_tensor_data" in page.locator(".live-responses-table").inner_text()
        page.close()
        assert [one for one in asked if not one.startswith((served.address, "data:", "blob:"))] == []
        assert errors == []
    finally:
        served.stop()
