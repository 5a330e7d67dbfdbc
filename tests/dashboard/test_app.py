"""What a browser is told: rows, records, comparisons and files, and nothing that is withheld or outside."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from assay.dashboard.app import create_app
from assay.dashboard.comparison import ONE_RECIPE, OTHER_STUDIES
from assay.dashboard.figures import Figures
from assay.dashboard.live import Live
from assay.study.plan import load_datasets, plan
from assay.study.reading import read_study
from assay.study.trial import Trial
from assay.void_tests import why_no_test
from tests.dashboard.conftest import TOKEN
from tests.dashboard.results import stored

ADDRESS = "http://localhost:8050"


class Page:
    """A browser's calls for the page of a folder."""

    def __init__(self, folder: Path) -> None:
        self.live = Live([str(folder)])
        self.live.look()
        app = create_app(self.live, token=TOKEN, port=8050)
        self.client = TestClient(app, base_url=ADDRESS, headers={"origin": ADDRESS})
        assert self.client.get("/", params={"token": TOKEN}).status_code == 200

    def get(self, path: str, **asked: str) -> Any:
        answer = self.client.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, trials: list[Trial]) -> Any:
        rows = self.live.trials.find([trial.id for trial in trials])
        return self.client.post(path, content=np.array(rows, "<u4").tobytes())


@pytest.fixture
def trials(tmp_path: Path, raw: Callable[..., dict[str, Any]]) -> list[Trial]:
    return stored(tmp_path / "results" / "tiny", raw)


@pytest.fixture
def page(tmp_path: Path, trials: list[Trial]) -> Page:
    return Page(tmp_path / "results")


def of(trials: list[Trial], *recipes: str, fold: int | None = None) -> list[Trial]:
    return [trial for trial in trials if trial.recipe_name in recipes and fold in (None, trial.fold)]


def test_the_overview_counts_what_is_done_and_what_failed(page: Page) -> None:
    (folder,) = page.get("/api/overview")
    assert folder["counts"] == {"done": 5, "failed": 1}
    assert (folder["name"], folder["kind"], folder["progress"]) == ("tiny", "study", None)


def test_rows_are_named_with_their_error(page: Page, trials: list[Trial]) -> None:
    (failed,) = page.post("/api/rows", of(trials, "slow", fold=1)).json()
    assert (failed["recipe"], failed["fold"], failed["state"], failed["error"]) == (
        "slow",
        2,
        "failed",
        "ValueError: odd",
    )


def test_a_record_holds_every_measurement_with_its_interval_and_checks(page: Page, trials: list[Trial]) -> None:
    record = page.get(f"/api/trials/{of(trials, 'standard', fold=0)[0].id}")
    accuracy = next(row for row in record["measurements"] if row["name"] == "accuracy")
    assert (accuracy["value"], accuracy["low"], accuracy["high"], accuracy["n"]) == pytest.approx((0.9, 0.85, 0.95, 30))
    assert [check["rule"] for check in record["checks"]] == ["stronger_attack"]
    assert {"key": "training.learning_rate", "value": 0.01} in record["settings"]
    assert any(file["name"].startswith("artefacts/") for file in record["files"])
    assert record["withheld"] == 0


def test_figures_of_training_records_of_a_private_model_are_withheld(page: Page, trials: list[Trial]) -> None:
    trial, other = of(trials, "private")
    answer = page.client.get(f"/api/trials/{trial.id}").text
    assert "0.1234" not in answer
    assert "membership_tpr" not in answer
    assert json.loads(answer)["withheld"] == 1
    compared = page.client.get("/api/compare", params={"trials": f"{trial.id},{other.id}"}).text
    assert "0.1234" not in compared
    assert "membership" not in compared


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../access.py", "/static/..%2faccess.py", "/static/%2e%2e/access.py", "/static//etc/passwd"),
        *("/static/none.js", "/docs", "/openapi.json"),
        *("/api/trials/..%2f..%2fstudy.yaml", "/api/trials/%00", "/api/trials/" + "a" * 5000),
    ],
)  # fmt: skip
def test_only_files_of_the_page_and_known_trials_are_found(page: Page, path: str) -> None:
    assert page.client.get(path).status_code == 404


@pytest.mark.parametrize("body", [b"abc", b"\xff\xff\xff\xff", bytes(4 * 501)])
def test_rows_that_are_none_are_refused(page: Page, body: bytes) -> None:
    assert page.client.post("/api/rows", content=body).status_code == 422


def test_a_table_of_the_selection_has_its_settings_and_figures(page: Page, trials: list[Trial]) -> None:
    chosen = of(trials, "standard", "private")
    rows = list(csv.DictReader(io.StringIO(page.post("/api/export.csv", chosen).text)))
    assert {row["trial"] for row in rows} == {trial.id for trial in chosen}
    by_trial = {row["trial"]: row for row in rows}
    for trial in chosen:
        row = by_trial[trial.id]
        assert row["recipe"] == trial.recipe_name
        assert float(row["privacy.epsilon"] or 0) == (4.0 if trial.recipe_name == "private" else 0)


def test_a_text_that_a_spreadsheet_would_run_is_quoted() -> None:
    from assay.dashboard.export import _cell

    assert _cell("=1+1") == "'=1+1"
    assert _cell(-1.5) == -1.5


def test_an_exported_study_plans_the_selected_trials(page: Page, trials: list[Trial], tmp_path: Path) -> None:
    chosen = of(trials, "slow", "private")
    answer = page.post("/api/export.yaml", chosen)
    (tmp_path / "selection.yaml").write_text(answer.text)
    study = read_study(str(tmp_path / "selection.yaml"), folder=tmp_path)
    assert {trial.id for trial in plan(study, load_datasets(study))} == {trial.id for trial in chosen}


def test_an_exported_study_of_audits_keeps_their_number(tmp_path: Path, raw: Callable[..., dict[str, Any]]) -> None:
    audited = raw({"private": {"privacy": {"epsilon": 4.0}}, "other": {"privacy": {"epsilon": 2.0}}})["cohorts"]["made"]
    asked = {"evaluations": ["accuracy", "audit"], "recipes": audited["recipes"]}

    def other(recipes: Any, **settings: Any) -> dict[str, Any]:
        return raw(asked["recipes"], {"evaluations": asked["evaluations"]}, **settings)

    from assay.study.reading import build_study
    from assay.study.run import write_study

    study = build_study(other(None), "t")
    trials = plan(study, load_datasets(study))
    from assay.results import Measurement
    from assay.store.folder import Store

    store = Store(str(tmp_path / "audits"))
    with store.locked():
        for trial in trials:
            store.write(trial.record(measurements=(Measurement(name="accuracy", value=0.9),)))
        write_study(study, store, {}, {})
    chosen = of(trials, "private")
    (tmp_path / "selection.yaml").write_text(Page(tmp_path / "audits").post("/api/export.yaml", chosen).text)
    narrowed = read_study(str(tmp_path / "selection.yaml"), folder=tmp_path)
    assert {trial.id for trial in plan(narrowed, load_datasets(narrowed))} == {trial.id for trial in chosen}


def test_a_selection_of_two_studies_is_no_study(
    tmp_path: Path, trials: list[Trial], raw: Callable[..., dict[str, Any]]
) -> None:
    others = stored(tmp_path / "results" / "other", raw, seed=5)
    page = Page(tmp_path / "results")
    answer = page.post("/api/export.yaml", [trials[0], others[0]])
    assert answer.status_code == 422
    assert "2 studies" in answer.json()["error"]
    compared = page.get("/api/compare", trials=f"{trials[0].id},{others[0].id}")
    assert (compared["tests"], compared["why"]) == ([], OTHER_STUDIES)


def test_a_comparison_shows_settings_that_differ_and_all_figures(
    page: Page, trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def differences(_: Figures, location: str, cohort: str, recipes: tuple[str, ...]) -> dict[str, Any]:
        asked.append(recipes)
        return {"tests": [], "why": ""}

    monkeypatch.setattr(Figures, "differences", differences)
    first, second = of(trials, "standard", "slow", fold=0)
    compared = page.get("/api/compare", trials=f"{first.id},{second.id}")
    assert [row["key"] for row in compared["settings"]] == ["training.learning_rate"]
    accuracy = next(row for row in compared["figures"] if row["name"] == "accuracy")
    assert [value["value"] for value in accuracy["values"]] == pytest.approx([0.9, 0.8])
    assert asked == [("standard", "slow")]


def test_no_test_where_test_records_chose(tmp_path: Path, trials: list[Trial]) -> None:
    (tmp_path / "results" / "tiny" / "sweep.html").write_text("")
    first, second = of(trials, "standard", "slow", fold=0)
    compared = Page(tmp_path / "results").get("/api/compare", trials=f"{first.id},{second.id}")
    assert (compared["tests"], compared["why"]) == ([], f"No test: {why_no_test('test', sweep=True)}.")


def test_no_test_of_one_recipe_or_on_validation_records(
    tmp_path: Path, page: Page, trials: list[Trial], raw: Callable[..., dict[str, Any]]
) -> None:
    first, second = of(trials, "standard")
    assert page.get("/api/compare", trials=f"{first.id},{second.id}")["why"] == ONE_RECIPE
    on_validation = stored(tmp_path / "validation", raw, split={"folds": 2, "tested": "validation"})
    pair = ",".join(trial.id for trial in of(on_validation, "standard", "slow", fold=0))
    why = Page(tmp_path / "validation").get("/api/compare", trials=pair)["why"]
    assert why == f"No test: {why_no_test('validation', sweep=False)}."


@pytest.mark.slow  # starts a process that loads the library; the tests above show when it is asked
def test_recipes_of_a_study_are_tested_over_all_folds_and_all_pairs(page: Page, trials: list[Trial]) -> None:
    first, second = (of(trials, recipe, fold=0)[0] for recipe in ("standard", "private"))
    compared = page.get("/api/compare", trials=f"{first.id},{second.id}")
    assert compared["pairs"] == 3
    accuracy = next(test for test in compared["tests"] if test["figure"] == "Accuracy")
    assert accuracy["difference"] == pytest.approx(-0.2)
    assert accuracy["runs"] == 2
    assert not [test for test in compared["tests"] if "Membership" in test["figure"]]


@pytest.mark.slow  # starts a process that loads the library
def test_a_trial_has_the_figures_of_the_report(page: Page, trials: list[Trial]) -> None:
    drawn = page.get(f"/api/trials/{of(trials, 'private', fold=0)[0].id}/figures")
    assert any(one["name"] == "privacy" for one in drawn["figures"])
    assert "0.1234" not in json.dumps(drawn)
