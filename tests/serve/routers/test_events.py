"""A stream of explanations ends with ``end``, or with ``error`` in the form of error responses."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.answers.explanations import PIECE
from serve.api import create_api
from serve.batching import FullError
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online

RECORDS = 3 * PIECE


@pytest.fixture(scope="module")
def online(store: Store) -> Online:
    return bring_online(open_finished(store, recipe="standard"), name="standard")


def events(online: Online) -> list[tuple[str, dict[str, Any]]]:
    api = create_api(Loaded([online]), public=False)
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    x = online.model.dataset.x[online.model.finished.split.test[:RECORDS]]
    headers = {"accept": "text/event-stream"}
    answer = client.post("/v1/models/standard:explain", json={"instances": np.asarray(x).tolist()}, headers=headers)
    assert answer.status_code == 200 and answer.text.endswith("\n\n")
    parts = [part.split("\n") for part in answer.text[:-2].split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def test_a_stream_ends_with_its_number_of_records(online: Online) -> None:
    found = events(online)
    assert [name for name, _ in found] == ["about", *["explanations"] * 3, "end"]
    assert found[-1][1] == {"done": RECORDS, "of": RECORDS}
    assert found[0][1]["fidelity"]["method"] == "integrated_gradients"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RefusedError("the change to explain is 0", reason="nothing"), 422, "the change to explain is 0"),
        (FullError("too many records wait"), 503, "the model is busy"),
        (NoFiniteAnswerError("the model gives no finite answer"), 500, "no finite answer"),
        (RuntimeError("Ada Lovelace"), 500, ""),
    ],
)
def test_a_stream_that_is_cut_says_so(
    online: Online, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    explain, pieces = online.model.explain, list[torch.Tensor]()

    def fails(x: torch.Tensor, method: str) -> Any:
        pieces.append(x)
        if len(pieces) > 2:
            raise error
        return explain(x, method)

    monkeypatch.setattr(online.model, "explain", fails)
    *before, (name, told) = events(online)
    assert [one for one, _ in before] == ["about", "explanations", "explanations"] and name == "error"
    assert told.keys() == {"done", "of", "status", "error", "reason"}
    assert (told["done"], told["of"], told["status"]) == (2 * PIECE, RECORDS, status)
    assert words in told["error"] and "Lovelace" not in told["error"]
    assert told["reason"] == getattr(error, "reason", "")
