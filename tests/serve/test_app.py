"""The application as ``serve run`` starts it, called over HTTP."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import ClickException
from fastapi import FastAPI
from fastapi.testclient import TestClient
from ray import serve as ray_serve

from assay.data.base import Dataset
from assay.errors import CheckpointError, UserError
from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.store.folder import Store
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.spec import Study
from assay.study.trial import Trial
from assay.training.checkpoints import from_bytes, to_bytes
from serve.app import build_app, start_here

ROOT = Path(__file__).parents[2]
PORT = 18123


@pytest.fixture(autouse=True)
def forgotten(results: Path) -> Iterator[None]:
    """All tests share the results, which remember their ledger, and each has ledgers of its own."""
    yield
    shutil.rmtree(results / "ledgers", ignore_errors=True)


def without_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the application, and start neither Ray nor Serve for it."""
    monkeypatch.setattr("serve.app.start_here", lambda port: None)
    monkeypatch.setattr("serve.app._require_room", lambda serving: None)


@pytest.mark.parametrize(
    ("changed", "setting", "given"),
    [
        ({"recipe": "standrd"}, "recipe", "standrd"),
        ({"recipe": "late"}, "recipe", "late"),
        ({"fold": "2"}, "recipe", "standard"),
        ({"fold": "3"}, "fold", 3),
        ({"cohort": "digits"}, "cohort", "digits"),
        ({"recipe": "private", "public": "true"}, "public", True),
        ({"queued": "-1"}, "queued", "-1"),
        ({"gpus": "2"}, "gpus", "2"),
        ({"gpus": "-0.5"}, "gpus", "-0.5"),
        ({"wait": "inf"}, "wait", "inf"),
        ({"quiet": "1"}, "quiet", "1"),
        ({"results": "/nowhere"}, "results", "/nowhere"),
        ({"name": "a/b"}, "name", "a/b"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    results: Path, changed: dict[str, str], setting: str, given: Any
) -> None:
    with pytest.raises(ClickException) as caught:
        build_app({"results": str(results), "recipe": "standard", **changed})
    error = caught.value.__cause__
    assert isinstance(error, UserError)
    assert (error.setting, error.given) == (setting, given)
    assert caught.value.message == str(error)


def test_what_is_public_is_charged_once_before_it_is_served(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_starting(monkeypatch)
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
    # The ledger's own budget is in force; a configuration that names another one does not just go unheard.
    build_app({**asked, "public": "true"})
    with pytest.raises(ClickException) as caught:
        build_app({**asked, "public": "true", "budget": "5"})
    error = caught.value.__cause__
    assert isinstance(error, UserError)
    assert (error.setting, error.given, error.allowed) == ("budget", 5, 3)
    assert [budget.epsilon for budget in ledger.budgets()] == [3.0]
    with pytest.raises(ClickException) as caught:
        build_app({**asked, "recipe": "standard", "public": "true"})
    assert "asks ε = inf" in caught.value.message


def test_a_public_model_without_privacy_leaves_no_budget_that_could_hold(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_starting(monkeypatch)
    build_app({"results": str(results), "recipe": "standard", "public": "true", "ledger": str(tmp_path)})
    with pytest.raises(ClickException) as caught:
        build_app(
            {"results": str(results), "recipe": "released", "public": "true", "ledger": str(tmp_path), "budget": "9"}
        )
    assert "ε = inf is spent" in caught.value.message


@pytest.fixture
def copy(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, to be changed."""
    without_starting(monkeypatch)
    return Path(shutil.copytree(results, tmp_path / "results"))


def trial_of(folder: Path, recipe: str) -> Trial:
    study = Study.model_validate(yaml.safe_load(Store(str(folder)).read_text("study.yaml"))["study"])
    return next(trial for trial in plan(study, load_datasets(study)) if (trial.recipe_name, trial.fold) == (recipe, 0))


def replica_of(monkeypatch: pytest.MonkeyPatch, **asked: str) -> Callable[[], FastAPI]:
    """What Serve calls to start a replica, the first time and after every failure."""
    made: list[Callable[[], FastAPI]] = []
    as_it_is = ray_serve.ingress

    def ingress(replica: Callable[[], FastAPI]) -> Any:
        made.append(replica)
        return as_it_is(replica)

    monkeypatch.setattr("serve.app.serve.ingress", ingress)
    build_app(asked)
    return made[0]


@pytest.mark.parametrize("recipe", ["standard", "released"])
def test_a_replica_serves_the_weights_that_were_chosen_or_none(
    recipe: str, copy: Path, wdbc: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = replica_of(monkeypatch, results=str(copy), recipe=recipe)
    assert replica().title == f"Assay: {recipe}"
    Store(str(copy)).write(run_trial(trial_of(copy, recipe), LocalExecutor(), wdbc))
    with pytest.raises(CheckpointError, match="as when they were chosen: it was trained again since"):
        replica()


def test_a_model_that_left_no_account_of_what_it_spent_is_not_served_to_others(
    copy: Path, wdbc: Dataset, tmp_path: Path
) -> None:
    trial, store = trial_of(copy, "released"), Store(str(copy))
    record = run_trial(trial, LocalExecutor(), wdbc)
    tensors, about = from_bytes(record.weights, "weights")
    store.write(replace(record, weights=to_bytes(tensors, {**about, "mechanisms": {}})))
    public = {
        "results": str(copy),
        "recipe": "released",
        "public": "true",
        "budget": "9",
        "ledger": str(tmp_path / "l"),
    }
    with pytest.raises(ClickException, match="left no account of what they spent"):
        build_app(public)
    assert not (tmp_path / "l").exists()


def test_the_card_that_others_see_holds_no_figure_of_training_records(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_starting(monkeypatch)
    asked = {"results": str(results), "recipe": "released"}
    here = replica_of(monkeypatch, **asked)
    public = replica_of(monkeypatch, **asked, public="true", budget="9", ledger=str(tmp_path))
    titles = [{one["title"] for one in card_from(replica())["evidence"]} for replica in (here, public)]
    assert "Accuracy" in titles[1]
    assert titles[0] - titles[1] == {title for title in titles[0] if "embership" in title} != set()


def card_from(api: FastAPI) -> Any:
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    return client.get("/v1/models/released/card").json()


@pytest.fixture(scope="module")
def server(results: Path, shared_ray: str) -> Iterator[str]:
    """The URL of the application, run on the Ray that tests share."""
    application = build_app({"results": str(results), "recipe": "standard", "port": str(PORT)})
    with pytest.MonkeyPatch.context() as patch:
        # All that the application does where no Ray runs yet, but for starting one.
        patch.setattr("serve.app.start_ray_here", lambda **settings: None)
        start_here(PORT)
    ray_serve.run(application)
    yield f"http://127.0.0.1:{PORT}"
    ray_serve.shutdown()


@pytest.fixture
def started(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of ``serve run``, in a process group of its own, at another port."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [
        str(Path(sys.executable).parent / "serve"), "run", "serve.app:build_app",
        f"results={results}", "recipe=standard", f"port={PORT + 1}",
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


def test_ray_and_its_proxy_are_started_on_the_loopback_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr("ray.init", lambda **settings: started.update({"ray": settings}))
    monkeypatch.setattr("serve.app.serve.start", lambda **settings: started.update({"proxy": settings}))
    start_here(PORT)
    assert started["ray"]["_node_ip_address"] == started["proxy"]["http_options"]["host"] == "127.0.0.1"
    assert started["proxy"]["http_options"]["port"] == PORT


@pytest.mark.slow
def test_the_model_answers_over_http_on_the_loopback_interface_only(server: str, wdbc: Dataset) -> None:
    answers(server, wdbc)
    is_on_loopback(PORT)


@pytest.mark.slow
def test_so_it_does_when_serve_run_starts_it(started: str, wdbc: Dataset) -> None:
    answers(started, wdbc)
    is_on_loopback(PORT + 1)


def answers(server: str, wdbc: Dataset) -> None:
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


def is_on_loopback(port: int) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ours = [
        line.split()[1] for line in listening if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert ours == [f"0100007F:{port:04X}"]
