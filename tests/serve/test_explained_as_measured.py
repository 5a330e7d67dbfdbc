"""The default explanation of a served model is the one whose faithfulness its card states, or it says otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from assay.evaluations.explained_maps import settings_of
from assay.evaluations.explanation_checks import LARGEST_ERROR
from assay.executors import LocalExecutor
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.report.checks import checks_of
from assay.store.folder import Store
from assay.study.finished import Finished, _explanations, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.answer_messages import Fidelity
from serve.answers.explanations import about_explanations
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


def test_what_was_measured_of_the_method_stands_in_typed_fields(finished: Finished) -> None:
    answer = explained(finished)
    known = Fidelity.model_validate(answer["fidelity"])
    (row,) = [
        row
        for _, row in finished.own[finished.own["name"] == "faithfulness"].iterrows()
        if row["conditions"]["primary"]
    ]
    measured = known.faithfulness
    assert known.stated and not known.why_not and measured is not None
    assert (known.method, known.settings, known.compared_with) == (
        "integrated_gradients",
        settings_of(ServedModel(finished).default.method),
        answer["compared_with"],
    )
    assert (measured.value, measured.n, measured.unit) == (row["value"], row["n"], row["unit"])
    assert measured.low is not None and measured.high is not None and measured.low <= measured.value <= measured.high
    checks = [one for one in checks_of(finished.own) if one.rule == "better_than_controls"]
    (check,) = [one for one in checks if one.conditions["method"] == "integrated_gradients"]
    assert (measured.verdict, measured.p, measured.verdict_is) == (check.verdict, check.figure, check.message)
    assert known.error_is == "completeness" and known.error_limit == LARGEST_ERROR
    assert known.seconds is not None and known.seconds > 0
    assert answer["explanations"][0]["error"] < known.error_limit and "warnings" not in answer["explanations"][0]


def test_of_another_method_nothing_was_measured(finished: Finished) -> None:
    known = Fidelity.model_validate(explained(finished, method="shap")["fidelity"])
    assert not known.stated and known.why_not and known.faithfulness is None and known.seconds is None
    assert (known.method, known.error_is) == ("deep_shap", "additivity")
    frame = finished.frame[finished.frame["name"] != "faithfulness"]
    known = Fidelity.model_validate(explained(replace(finished, frame=frame))["fidelity"])
    assert not known.stated and "not measured" in known.why_not and known.faithfulness is None


def test_the_kind_of_the_error_is_the_same_in_words(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    assert about_explanations(ServedModel(finished), "default")["error_is"].startswith("completeness error")
    assert about_explanations(ServedModel(finished), "shap")["error_is"].startswith("additivity error")
    monkeypatch.setattr(IntegratedGradients, "adds_up", False)
    about = about_explanations(ServedModel(finished), "default")
    assert about["fidelity"]["error_is"] is None and about["error_is"].startswith("no error")


def test_an_explanation_beyond_the_limit_of_its_error_has_a_warning(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = ServedModel.explain

    def worse(model: ServedModel, x: Any, method: str) -> Any:
        target, attribution = explain(model, x, method)
        return target, replace(attribution, error=attribution.error + 0.25)

    monkeypatch.setattr(ServedModel, "explain", worse)
    (told,) = explained(finished)["explanations"][0]["warnings"]
    assert told == "the values do not add up to the explained change: relative error 25%, limit 10%"


def test_the_description_has_the_fields_of_fidelity(finished: Finished) -> None:
    document = client_of(finished).get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for name in ("ExplainResponse", "AboutExplanations"):
        assert schemas[name]["properties"]["fidelity"]["$ref"].endswith("/Fidelity")
    assert {"verdict", "low", "high", "n", "p"} <= schemas["MeasuredFaithfulness"]["properties"].keys()
    streamed = document["paths"]["/v1/models/{name}:explain"]["post"]["responses"]["200"]["content"]
    assert schemas["Answer"]["properties"]["certificate"]["anyOf"][0]["$ref"].endswith("/RecordCertificate")
    assert "calibrated" in schemas["Answer"]["properties"]["probabilities"]["description"]
    assert "`error`" in streamed["text/event-stream"]["schema"]["description"]
    assert streamed["application/json"]["schema"]["$ref"].endswith("/ExplainResponse")
    card = document["paths"]["/v1/models/{name}/card"]["get"]["responses"]["200"]["content"]
    assert card.keys() == {"application/json", "text/html"}


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
