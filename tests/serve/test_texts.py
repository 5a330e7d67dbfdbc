"""A model of text answers texts: which class, which words said so, and what it cannot prove."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from assay.data.text.words import words_of
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.api import create_api
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

V1 = "/v1/models/standard"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("texts")
    generator = np.random.default_rng(0)
    lines = []
    for number in range(120):
        own = (["dull", "poor", "weak"], ["fine", "great", "lovely"])[number % 2]
        lines.append(" ".join(generator.permutation([*generator.choice(own, 2), "the", "film"])) + f",{number % 2}")
    (folder / "texts.csv").write_text("text,label\n" + "\n".join(lines))
    cohort = {
        "dataset": {
            "name": "text_file",
            "path": str(folder / "texts.csv"),
            "embedding": {"name": "learned", "dimension": 8},
        },
        "model": {"name": "text_cnn", "widths": [2], "channels": 8, "dropout": 0},
        "evaluations": ["accuracy", "certificates"],
        "recipes": {"standard": {"training": {"epochs": 8, "batch_size": 16, "learning_rate": 0.01}}},
    }
    study = build_study({"name": "texts", "split": {"folds": 2}, "cohorts": {"texts": cohort}}, "test")
    store, datasets = Store(str(folder / "results")), load_datasets(study)
    trial = plan(study, datasets)[0]
    write_study(study, store, {trial.id: trial.label}, {})
    store.write(run_trial(trial, LocalExecutor(), datasets["texts"]))
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def client(finished: Finished) -> TestClient:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


def test_texts_are_answered_as_the_model_was_measured(client: TestClient, finished: Finished) -> None:
    texts = ["The film, lovely and GREAT", "a dull film"]
    found = client.post(f"{V1}:predict", json={"instances": texts}).json()["predictions"]
    with torch.no_grad():
        encoded = finished.dataset.language.encode([words_of(text) for text in texts])
        expected = finished.model(torch.from_numpy(encoded)).softmax(1).numpy()
    np.testing.assert_allclose([list(one["probabilities"].values()) for one in found], expected, atol=1e-6)
    assert [one["class_name"] for one in found] == ["1", "0"]


def test_words_that_the_model_does_not_read_are_told(client: TestClient) -> None:
    texts = ["the film " * 200 + "lovely", "zxcv qwer asdf film", "the film great"]
    for call, key in (("predict", "predictions"), ("explain", "explanations"), ("answer", "answers")):
        found = [
            one.get("warnings") or [] for one in client.post(f"{V1}:{call}", json={"instances": texts}).json()[key]
        ]
        assert found == [["the model reads the first 4 of 401 words"], ["3 of 4 words are unknown to the model"], []]


def test_each_word_has_its_part_in_the_answer(client: TestClient) -> None:
    answer = client.post(f"{V1}:explain", json={"instances": ["the film great"]}).json()
    (found,) = answer["explanations"]
    assert answer["compared_with"] == "words without a meaning"
    assert found["words"] == ["the", "film", "great"]
    by_word = dict(zip(found["words"], found["attributions"], strict=True))
    assert max(by_word, key=lambda word: abs(by_word[word])) != "the"
    assert found["error"] < 0.05


def test_what_cannot_be_bounded_is_refused_with_its_reason(client: TestClient) -> None:
    answer = client.post(f"{V1}:certify", json={"instances": ["a film"], "epsilons": [0.1]})
    assert answer.status_code == 422
    assert "interval bound" in answer.json()["error"]


@pytest.mark.parametrize("sent", [[3], [[0.1, 0.2]], ["  "], [None]])
def test_what_is_no_text_is_refused(client: TestClient, sent: list[Any]) -> None:
    answer = client.post(f"{V1}:predict", json={"instances": sent})
    assert answer.status_code == 422
    assert "record 0 is no text" in answer.json()["error"]


def test_metadata_say_that_texts_are_read(client: TestClient) -> None:
    about = client.get("/v2/models/standard").json()
    assert about["inputs"] == [{"name": "records", "datatype": "BYTES", "shape": [-1]}]
    assert (about["low"], about["high"]) == ([], [])
    tensor = {"name": "records", "shape": [1, 4], "datatype": "FP32", "data": [0.0, 0, 0, 0]}
    refused = client.post("/v2/models/standard/infer", json={"inputs": [tensor]})
    assert (refused.status_code, "no text" in refused.json()["error"]) == (422, True)


def test_a_served_checkpoint_is_the_trained_one(finished: Finished, tmp_path: Path) -> None:
    rows = finished.split.test
    logits = finished.model(torch.from_numpy(finished.dataset.x[rows]))
    measured = finished.own[finished.own["name"] == "accuracy"]["value"].iloc[0]
    assert float((logits.argmax(1).numpy() == finished.dataset.y[rows]).mean()) == pytest.approx(measured)
