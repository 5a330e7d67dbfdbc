"""What is built before anything is served: refusals, charges, weights, and who may call. No Ray runs."""

import os
import shutil
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
from serve.app import auth_of, build_app, start_here
from serve.auth.settings import SCOPES, AuthSettings
from serve.auth.tokens import TokenFile, add_token, revoke_token
from serve.repository.entries import Entry, Repository, Source, Version
from serve.repository.opening import open_source
from serve.settings import read_settings

PORT = 18123

pytestmark = pytest.mark.usefixtures("cluster_environment_not_checked")


@pytest.fixture(autouse=True)
def forgotten(results: Path) -> Iterator[None]:
    """All tests share the results, which remember their ledger, and each has ledgers of its own."""
    yield
    shutil.rmtree(results / "ledgers", ignore_errors=True)


def without_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the application, and start neither Ray nor Serve for it."""
    monkeypatch.setattr("serve.app.start_here", lambda serving, haproxy: "")
    monkeypatch.setattr("serve.app._require_tokens", lambda serving: None)
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
        ({"tokens": "s3://bucket/tokens.json"}, "tokens", "s3://bucket/tokens.json"),
        ({"grpc_port": "70000"}, "grpc_port", "70000"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    results: Path, changed: dict[str, str], setting: str, given: Any
) -> None:
    with pytest.raises(ClickException) as caught:
        build_app({"results": str(results), "recipe": "standard", "tokens": "none", **changed})
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


def test_every_version_of_a_public_repository_is_charged_before_it_is_served(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_starting(monkeypatch)
    source = Source(results=str(results), recipe="released")
    chosen = source.model_copy(update={"artefact": open_source(source, public=False).artefact})
    repository = Repository(str(tmp_path / "serving"))
    first = Version(**chosen.model_dump(), version="1")
    repository.write(Entry(name="triage", versions=(first,), current="1"))
    asked = {"repository": str(tmp_path / "serving"), "ledger": str(tmp_path / "ledgers"), "public": "true"}
    asked |= {"tokens": "none"}
    with pytest.raises(ClickException, match="no budget yet"):
        build_app(asked)
    build_app({**asked, "budget": "3"})
    (ledger,) = (Ledger(path) for path in (tmp_path / "ledgers").glob("wdbc-*.sqlite"))
    (held,) = ledger.account().charges
    assert [where.split(",")[0] for where in held.departures] == ["served as triage"]
    # One that comes later is charged by the replica that loads it, or not loaded.
    replica = replica_of(monkeypatch, **asked)
    other = Source(results=str(results), recipe="standard")
    late = Version(**other.model_dump(), version="2")
    repository.write(Entry(name="triage", versions=(first, late), current="1"))
    loaded = replica().state.loaded
    assert loaded.versions("triage") == ["1"] and "ε = inf" in loaded.failing["triage"]["2"]


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
    asked = {"results": str(results), "recipe": "released", "tokens": "none"}
    here = replica_of(monkeypatch, **asked)
    public = replica_of(monkeypatch, **asked, public="true", budget="9", ledger=str(tmp_path))
    titles = [{one["title"] for one in card_from(replica())["evidence"]} for replica in (here, public)]
    assert "Accuracy" in titles[1]
    assert titles[0] - titles[1] == {title for title in titles[0] if "embership" in title} != set()


def card_from(api: FastAPI) -> Any:
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    return client.get("/v1/models/released/card").json()


def test_ray_and_its_proxy_are_started_on_the_loopback_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr("ray.init", lambda **settings: started.update({"ray": settings}))
    monkeypatch.setattr("serve.local.serve.start", lambda **settings: started.update({"proxy": settings}))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    asked = {"results": "results", "recipe": "standard", "port": str(PORT)}
    address = start_here(read_settings(asked), haproxy=False)
    assert started["ray"]["_node_ip_address"] == started["proxy"]["http_options"]["host"] == "127.0.0.1"
    assert started["proxy"]["http_options"]["port"] == PORT
    token = address.removeprefix(f"http://localhost:{PORT}/?token=")
    assert TokenFile(tmp_path / "tokens.json").find(token) is not None


def test_a_service_on_a_cluster_asks_for_a_token(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.app._require_room", lambda serving: None)
    monkeypatch.setattr("serve.app.ray.is_initialized", lambda: True)
    file = tmp_path / "tokens.json"
    asked = {"results": str(results), "recipe": "standard", "tokens": str(file)}
    with pytest.raises(ClickException, match="there is no file of tokens"):
        build_app(asked)
    valid = add_token(file, "ward", scopes=SCOPES, days=None)
    api = replica_of(monkeypatch, **asked)()
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    for sent in ({}, {"authorization": "Bearer wrong"}):
        assert client.get("/v2/models/standard", headers=sent).status_code == 401
    assert client.get("/v2/models/standard", headers={"authorization": f"Bearer {valid}"}).status_code == 200
    revoke_token(file, "ward")
    with pytest.raises(ClickException, match="has no token, so nobody could call"):
        build_app(asked)
    assert replica_of(monkeypatch, **{**asked, "tokens": "none"})() is not None


def test_who_may_call_is_what_the_environment_says_unless_the_settings_say_it(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"results": str(results), "recipe": "standard"}
    assert auth_of(read_settings(asked)).tokens == str(results.parent / "tokens.json")
    given = AuthSettings(jwks="https://keys.example/jwks", issuer="https://ehr.example", audience="assay")
    monkeypatch.setenv("ASSAY_SERVE_AUTH", given.to_json())
    assert auth_of(read_settings(asked)) == given
    assert auth_of(read_settings({**asked, "tokens": "/t.json"})) == replace(given, tokens="/t.json")
    assert auth_of(read_settings({**asked, "tokens": "none"})) == AuthSettings(anyone=True)
