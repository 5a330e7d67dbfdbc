"""The default explanation of a served model is the one whose faithfulness its card states, or it says otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from assay.executors import LocalExecutor
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.store.folder import Store
from assay.study.finished import Finished, _explanations, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.api import create_api
from serve.model import ServedModel
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

ASKED = {
    "name": "explanations",
    "points": 10,
    "shap_background": 4,
    "records": 20,
    "measured": 10,
    "draws": 50,
    "control_draws": 3,
    "steps": 4,
    "retrained": False,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    cohort = {
        "dataset": "wdbc",
        "model": {"name": "mlp", "hidden": [8]},
        "evaluations": ["accuracy", ASKED],
        "recipes": {"standard": {"training": {"epochs": 4, "learning_rate": 0.01}}},
    }
    study = build_study({"name": "small", "split": {"folds": 2}, "cohorts": {"wdbc": cohort}}, "test")
    store, datasets = Store(str(tmp_path_factory.mktemp("explained"))), load_datasets(study)
    trial = plan(study, datasets)[0]
    write_study(study, store, {trial.id: trial.label}, {})
    store.write(run_trial(trial, LocalExecutor(), datasets["wdbc"]))
    return open_finished(store, recipe="standard")


def client_of(finished: Finished) -> TestClient:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))


def explained(finished: Finished, **asked: Any) -> dict[str, Any]:
    answer = client_of(finished).post("/v1/models/standard:explain", json={"instances": [[0.5] * 30], **asked})
    return dict(answer.json())


def test_the_service_answers_with_the_method_settings_and_reference_of_the_evaluation(finished: Finished) -> None:
    served = ServedModel(finished)
    assert served.default.method == IntegratedGradients(points=3, most=10)
    assert served.compared_with.startswith("4 training records")
    answer = explained(finished)
    assert answer["faithfulness"] == "the card states the faithfulness of this method with these settings"
    assert "not of this one" in explained(finished, method="shap")["faithfulness"]
    card = client_of(finished).get("/v1/models/standard/card").json()
    assert not any("faithfulness of the card" in warning for warning in card["warnings"])


def test_another_method_than_that_of_the_card_is_told_in_the_answer_and_the_card(finished: Finished) -> None:
    frame = finished.frame.copy()
    frame["conditions"] = [{**one, "method": "occlusion"} if one.get("primary") else one for one in frame["conditions"]]
    other = replace(finished, frame=frame)
    told = "the faithfulness of the card was measured with method 'occlusion', not 'integrated_gradients'"
    assert told in explained(other)["faithfulness"]
    assert any(told in warning for warning in client_of(other).get("/v1/models/standard/card").json()["warnings"])


def test_a_trial_of_settings_that_are_no_longer_known_is_opened() -> None:
    asked = {"evaluations": [{"name": "explanations", "shap_records": 3, "from_training": False}]}
    assert _explanations(asked).from_training is False
    assert _explanations({}).shap_background == 50
