"""The routes note what they answer before they send it, and an answer that cannot be noted is not given."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from assay.errors import SpecError
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from jobs.log import app
from serve.answers.held_out import HeldOut
from serve.api import create_api
from serve.audit_log.decision import Decision, Hook, LogFullError, Refused
from serve.audit_log.log import DecisionLog
from serve.audit_log.reading import entries
from serve.audit_log.verify import verify
from serve.repository.entries import Entry, Version
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online
from serve.settings import read_settings

CALLS = ["predict", "explain", "stream", "certify", "answer", "infer"]


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def online(finished: Finished) -> Online:
    return bring_online(finished, name="standard")


@pytest.fixture(scope="module")
def x(finished: Finished) -> np.ndarray:
    return finished.dataset.x[finished.split.test[:5]]


def client_of(online: Online, log: Hook | None) -> TestClient:
    api = create_api(Loaded([online]), public=False, log=log)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


def post(client: TestClient, call: str, x: np.ndarray, **headers: str) -> Any:
    if call == "infer":
        tensor = {"name": "records", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
        return client.post("/v2/models/standard/infer", json={"inputs": [tensor]}, headers=headers)
    if call == "stream":
        call, headers = "explain", {**headers, "Accept": "text/event-stream"}
    return client.post(f"/v1/models/standard:{call}", json={"instances": x.tolist()}, headers=headers)


@pytest.mark.parametrize("call", CALLS)
def test_one_answer_is_one_line_with_its_classes(online: Online, x: np.ndarray, tmp_path: Path, call: str) -> None:
    log = DecisionLog(tmp_path)
    client = client_of(online, log.record)
    assert post(client, call, x, **{"X-Request-ID": "call-7"}).status_code == 200
    assert post(client, call, x[:, :4]).status_code == 422
    assert client.post("/v1/models/none:predict", json={"instances": []}).status_code == 404
    log.close()
    assert not verify(tmp_path)[0].faults
    found = {one.entry["event"]: one.entry for one in entries(tmp_path)}
    line = found["answer"]
    assert line["classes"] == online.model.decisions(online.model.logits(online.model.read(x.tolist()).x)).tolist()
    assert [line[key] for key in ("model", "version", "artefact")] == list(online.origin.values())
    assert (line["call"], line["records"], line["request_id"]) == ({"stream": "explain"}.get(call, call), 5, "call-7")
    assert ("left" in line) == (call == "answer")
    assert found["refusals"]["counts"] == {"404": 1, "422": 1}


def test_the_same_record_has_the_same_hash_whatever_the_protocol(online: Online, x: np.ndarray, tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    for call in ("predict", "infer", "certify"):
        post(client_of(online, log.record), call, x)
    log.close()
    lines = [one.entry for one in entries(tmp_path) if one.entry["event"] == "answer"]
    assert len({tuple(line["inputs"]) for line in lines}) == 1
    assert len({line["body"] for line in lines}) == 2


def test_what_is_not_known_of_abstention_is_null(online: Online, x: np.ndarray, tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    bare = replace(online, held_out=HeldOut(source="none: there are none"))
    answer = post(client_of(bare, log.record), "answer", x).json()
    log.close()
    (line,) = [one.entry for one in entries(tmp_path) if one.entry["event"] == "answer"]
    assert line["left"] == [one["left_to_clinician"]["left"] for one in answer["answers"]] and None in line["left"]
    shown = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_noted_is_not_answered(online: Online, x: np.ndarray, call: str) -> None:
    def full(said: Decision | Refused) -> None:
        if isinstance(said, Decision):
            raise LogFullError("the decision log cannot be written (the disk is full)")

    answer = post(client_of(online, full), call, x)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"error": "the decision log cannot be written (the disk is full)"}


def test_an_answer_waits_for_what_the_log_returns(online: Online, x: np.ndarray) -> None:
    def failed(said: Decision | Refused) -> Future[None]:
        written: Future[None] = Future()
        written.set_exception(LogFullError("not written"))
        return written

    assert post(client_of(online, failed), "predict", x).status_code == 503


def test_loaded_versions_are_told(online: Online) -> None:
    told: list[tuple[str, str]] = []
    loaded = Loaded(told=lambda event, **about: told.append((event, about["version"])))

    def version(name: str) -> Version:
        return Version(results="/r", recipe="standard", version=name, artefact=f"a{name}")

    def load(name: str, one: Version) -> Online:
        return replace(online, version=one.version, artefact=one.artefact)

    entry = Entry(name="standard", versions=(version("1"),), current="1")
    loaded.update(entry, load)
    loaded.update(entry, load)
    entry = entry.with_version(version("2"), current=True)
    loaded.update(entry, load)
    entry = entry.rolled_back()
    loaded.update(entry, load)
    loaded.update(entry.without("2"), load)
    loaded.drop("standard")
    assert told == [
        *(("load", "1"), ("load", "2"), ("promote", "2"), ("rollback", "1"), ("unload", "2"), ("unload", "1"))
    ]


def test_the_log_lies_beside_the_results_or_where_it_is_said(tmp_path: Path) -> None:
    asked = {"recipe": "standard", "results": str(tmp_path / "mine")}
    assert read_settings(asked).log_folder == tmp_path / "decisions"
    assert read_settings({**asked, "log": str(tmp_path / "here")}).log_folder == tmp_path / "here"
    assert read_settings({**asked, "log": "none"}).log_folder is None
    assert read_settings({**asked, "results": "s3://bucket/mine", "log": "none", "tokens": "none"}).log_folder is None
    for wrong in ({"results": "s3://bucket/mine"}, {"log": "s3://bucket/log"}):
        with pytest.raises(SpecError) as caught:
            read_settings({**asked, **wrong})
        assert caught.value.setting == "log"
