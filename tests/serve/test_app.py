"""The application as ``serve run`` starts it, called over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click import ClickException

from assay.data.base import Dataset
from assay.privacy.ledger import Ledger
from serve.app import build_app

ROOT = Path(__file__).parents[2]
PORT = 18123


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": "standrd"}, "unknown recipe 'standrd'; allowed: standard, private, released, late"),
        ({"recipe": "late"}, "'late' of cohort 'wdbc', fold 1, repeat 1 has not finished"),
        ({"fold": "2"}, "'standard' of cohort 'wdbc', fold 2, repeat 1 has not finished"),
        ({"fold": "3"}, "fold 3 does not exist; the study has 2"),
        ({"cohort": "digits"}, "unknown cohort 'digits'; allowed: wdbc"),
        ({"recipe": "private", "public": "true"}, "its noise is seeded"),
        ({"queued": "-1"}, "queued"),
        ({"quiet": "1"}, "quiet"),
        ({"results": "/nowhere"}, "there is no study in '/nowhere'"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    results: Path, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(ClickException) as caught:
        build_app({"results": str(results), "recipe": "standard", **changed})
    assert said in caught.value.message


def test_what_is_public_is_charged_once_before_it_is_served(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.app._start_here", lambda port: None)
    asked = {"results": str(results), "recipe": "released", "ledger": str(tmp_path)}
    build_app(asked)
    assert not list(tmp_path.iterdir()), "on loopback nothing is released"
    for budget, said in (({}, "no budget yet"), ({"budget": "1"}, "the budget is ε = 1 at δ = 1e-05")):
        with pytest.raises(ClickException) as caught:
            build_app({**asked, "public": "true", **budget})
        assert said in caught.value.message
    for _ in range(2):
        build_app({**asked, "public": "true", "budget": "3", "name": "triage"})
    (ledger,) = (Ledger(path) for path in tmp_path.glob("wdbc-*.sqlite"))
    (held,) = ledger.account().charges
    assert held.state == "released"
    assert [where.split(",")[0] for where in held.departures] == ["served as triage"]
    # The ledger's own budget is in force, whatever a configuration says.
    build_app({**asked, "public": "true", "budget": "5"})
    assert [budget.epsilon for budget in ledger.budgets()] == [3.0]
    with pytest.raises(ClickException) as caught:
        build_app({**asked, "recipe": "standard", "public": "true"})
    assert "asks ε = inf" in caught.value.message


def test_a_public_model_without_privacy_leaves_no_budget_that_could_hold(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.app._start_here", lambda port: None)
    build_app({"results": str(results), "recipe": "standard", "public": "true", "ledger": str(tmp_path)})
    with pytest.raises(ClickException) as caught:
        build_app(
            {"results": str(results), "recipe": "released", "public": "true", "ledger": str(tmp_path), "budget": "9"}
        )
    assert "ε = inf is spent" in caught.value.message


@pytest.fixture(scope="module")
def server(results: Path) -> Iterator[str]:
    """The URL of ``serve run``, in a process group of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [
        str(Path(sys.executable).parent / "serve"), "run", "serve.app:build_app",
        f"results={results}", "recipe=standard", f"port={PORT}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "serve run ended"
                time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_model_answers_over_http(server: str, wdbc: Dataset) -> None:
    records = wdbc.x[:3].tolist()
    model = f"{server}/v1/models/standard"
    for call, key in (("predict", "predictions"), ("explain", "explanations"), ("certify", "certificates")):
        status, answer = post(f"{model}:{call}", {"instances": records})
        assert (status, len(answer[key])) == (200, 3)
    tensor = {"name": "records", "shape": [3, 30], "datatype": "FP32", "data": wdbc.x[:3].flatten().tolist()}
    status, answer = post(f"{server}/v2/models/standard/infer", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["shape"]) == (200, [3, 2])
    assert post(f"{model}:predict", {"instances": [["Ada"] * 30]})[0] == 422
    assert post(f"{model}:predict", {"instances": [[0.0] * 30] * 20000})[0] == 413
    with urllib.request.urlopen(f"{server}/openapi.json", timeout=10) as answer:
        assert "/v2/models/{name}/infer" in json.load(answer)["paths"]


def test_the_port_is_open_on_the_loopback_interface_only(server: str) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ours = [
        line.split()[1] for line in listening if line.split()[3] == "0A" and line.split()[1].endswith(f":{PORT:04X}")
    ]
    assert ours == [f"0100007F:{PORT:04X}"]
