"""A whole answer says nothing good that was not measured, and its threshold, probabilities and class agree."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from assay.data.intended_use import IntendedUse
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.spec import Study
from assay.tasks.operating_point import OperatingPoint
from serve.answers.held_out import ABSTENTION, HeldOut, calibrate
from serve.answers.operating_point import decided_at
from serve.answers.whole import decided
from serve.api import create_api
from serve.inputs.records import Records
from serve.page.facts import facts_of
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online

V1 = "/v1/models/standard"
USE = IntendedUse(records="patients of one hospital", sites=("St Mary",))


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def online(finished: Finished) -> Online:
    """A model whose data set names its hospital."""
    return bring_online(replace(finished, dataset=replace(finished.dataset, intended_use=USE)), name="standard")


@pytest.fixture(scope="module")
def at_point(finished: Finished) -> Online:
    """A model that decides at an operating point."""
    asked = finished.study.model_dump(mode="json")
    task = {"name": "classification", "decide_at": "operating_point", "sensitivity": 0.8}
    asked["cohorts"]["wdbc"] |= {"task": task, "evaluations": ["certificates"], "selected_evaluations": []}
    return bring_online(replace(finished, study=Study.model_validate(asked)), name="standard")


def answers(online: Online, **about: Any) -> dict[str, Any]:
    """What is answered of familiar training records."""
    api = create_api(Loaded([online]), public=False)
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    dataset, rows = online.model.dataset, online.model.finished.split.train[:8]
    asked = {"instances": dataset.x[rows].tolist(), "explain": False, **({"about": about} if about else {})}
    answer = client.post(f"{V1}:answer", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def familiar(whole: dict[str, Any]) -> list[dict[str, Any]]:
    found = [one for one in whole["answers"] if one["out_of_distribution"]["unfamiliar"] is False]
    assert found
    return found


def test_coverage_is_promised_to_records_of_the_hospital_that_calibrated_the_set(online: Online) -> None:
    for one in familiar(answers(online, site="ST MARY ")):
        told, left = one["prediction_set"], one["left_to_clinician"]
        assert told["valid"] is True and "why_not" not in told and told["coverage"] == told["nominal_coverage"] == 0.9
        assert left["valid"] is True and left["why_not_valid"] == "" and left["left"] in {True, False}
        assert one["out_of_distribution"]["why"] == "" and one["probabilities_are"].endswith("of the named hospitals")


@pytest.mark.parametrize(
    ("about", "why"), [({}, "nothing says"), ({"age": 50}, "nothing says"), ({"site": "Ward 7"}, "another hospital")]
)
def test_nothing_is_promised_elsewhere(online: Online, about: dict[str, Any], why: str) -> None:
    for one in familiar(answers(online, **about)):
        told = one["prediction_set"]
        assert told["valid"] is False and why in told["why_not"] and told["classes"] and "Ward" not in told["why_not"]
        assert told["coverage"] is None and told["nominal_coverage"] == 0.9
        left = one["left_to_clinician"]
        assert left["valid"] is False and why in left["why_not_valid"] and "Ward" not in left["why_not_valid"]


@pytest.mark.parametrize(("site", "valid"), [("St Mary", True), ("Ward 7", False)])
def test_an_answer_of_a_certain_model_is_promised_to_the_hospitals_of_the_calibration_alone(
    online: Online, site: str, valid: bool
) -> None:
    sure = replace(online, held_out=replace(online.held_out, least_certainty=-100.0))
    for one in familiar(answers(sure, site=site)):
        left = one["left_to_clinician"]
        assert (left["left"], left["why"], left["valid"], left["why_not_valid"] == "") == (False, "", valid, valid)


def test_coverage_is_not_promised_where_no_hospital_is_known_or_a_check_refutes_it(
    finished: Finished, online: Online
) -> None:
    nameless = replace(finished.dataset, intended_use=None, site=None)
    (first, *_) = familiar(answers(bring_online(replace(finished, dataset=nameless), name="standard"), site="St Mary"))
    assert (
        first["prediction_set"]["valid"] is False
        and "does not name the hospitals" in first["prediction_set"]["why_not"]
    )
    assert "does not name" in first["left_to_clinician"]["why_not_valid"]
    assert "does not name" in first["probabilities_are"]
    (first, *_) = familiar(answers(checked(online, "conformal_coverage", "warn", method="LAC"), site="St Mary"))
    assert first["prediction_set"]["valid"] is False and "refuted" in first["prediction_set"]["why_not"]
    assert first["left_to_clinician"]["valid"] is True


def checked(online: Online, rule: str, verdict: str, measured: str = "", **conditions: Any) -> Online:
    """The same model with one more check of its study, and one more measurement where it is named."""
    finished = online.model.finished
    one = finished.own[finished.own["kind"] == "check"].iloc[:1].copy()
    one["rule"], one["verdict"], one["conditions"] = rule, verdict, pd.Series([conditions], index=one.index)
    frames = [finished.frame, one]
    if measured:
        row = finished.own[finished.own["status"] == "measured"].iloc[:1].copy()
        row["name"], row["conditions"] = measured, pd.Series([conditions], index=row.index)
        frames.append(row)
    return bring_online(replace(finished, frame=pd.concat(frames, ignore_index=True)), name="standard")


def test_a_check_of_other_sets_or_of_another_risk_refutes_nothing(online: Online) -> None:
    plain = online.model
    assert not plain.coverage_checked.measured and not plain.coverage_checked.refuted
    assert not plain.risk_checked.measured and not plain.risk_checked.refuted
    aps = checked(online, "conformal_coverage", "warn", "conformal_coverage", method="APS", alpha=0.1).model
    assert not aps.coverage_checked.measured and not aps.coverage_checked.refuted
    kept = checked(online, "conformal_coverage", "pass", "conformal_coverage", method="LAC", alpha=0.1)
    assert kept.model.coverage_checked.measured and not kept.model.coverage_checked.refuted
    (first, *_) = familiar(answers(kept, site="St Mary"))
    assert first["prediction_set"]["coverage_checked"] is True and first["prediction_set"]["valid"] is True
    other = checked(online, "selective_risk", "warn", "risk_after_abstention", risk=0.5).model
    assert not other.risk_checked.measured and not other.risk_checked.refuted


def test_a_refuted_risk_is_not_promised(online: Online) -> None:
    refuted = checked(online, "selective_risk", "warn", "risk_after_abstention", risk=ABSTENTION.risk)
    (first, *_) = familiar(answers(refuted, site="St Mary"))
    left = first["left_to_clinician"]
    assert left["valid"] is False and "refuted" in left["why_not_valid"] and left["risk_checked"] is True
    assert first["prediction_set"]["valid"] is True and first["prediction_set"]["coverage_checked"] is False


def test_the_hospitals_are_those_of_the_held_out_records(finished: Finished) -> None:
    sites = np.full(len(finished.dataset.x), "Elsewhere", dtype=object)
    held, _ = finished.subject.held_out
    sites[held[::2]], sites[held[1::2]] = "North", ""
    named = replace(finished, dataset=replace(finished.dataset, site=sites.astype(str), intended_use=USE))
    assert calibrate(named.subject).sites == {"north"}
    assert calibrate(finished.subject).sites == frozenset(
        site.casefold() for site in getattr(finished.dataset.intended_use, "sites", ())
    )


def test_the_page_asks_for_the_hospital_where_it_decides(online: Online, finished: Finished) -> None:
    (site,) = facts_of(online, ["1"], public=False)["criteria"]
    assert (site["name"], site["values"]) == ("site", ["St Mary"])
    sites = np.full(len(finished.dataset.x), "North")
    named = bring_online(
        replace(finished, dataset=replace(finished.dataset, site=sites, intended_use=USE)), name="standard"
    )
    assert facts_of(named, ["1"], public=False)["criteria"][-1]["values"] == []


def test_what_was_not_measured_is_null(online: Online) -> None:
    bare = replace(online, held_out=HeldOut(source="none: there are none"))
    for one in answers(bare)["answers"]:
        if one["out_of_distribution"]["unfamiliar"] is not True:  # outside the range of the training records
            assert one["out_of_distribution"]["unfamiliar"] is None and one["out_of_distribution"]["limit"] is None
            assert one["left_to_clinician"]["left"] is None and one["left_to_clinician"]["why"]
            assert "there are none" in one["out_of_distribution"]["why"]
        assert one["left_to_clinician"]["valid"] is False and one["left_to_clinician"]["why_not_valid"]
        assert one["prediction_set"]["valid"] is False
        assert "not calibrated" in one["probabilities_are"]
    assert answers(online)["checks"] == online.model.checks > 0


def test_a_record_outside_the_range_is_unfamiliar_though_no_limit_was_measured(online: Online) -> None:
    bare = replace(online, held_out=HeldOut(source="none: there are none"))
    records = Records(x=torch.zeros(2, 30), outside=(True, False))
    found = decided(bare, np.zeros((2, 2), np.float32), records)
    assert [one["out_of_distribution"]["unfamiliar"] for one in found] == [True, None]
    assert [one["left_to_clinician"]["left"] for one in found] == [True, None]
    assert found[0]["out_of_distribution"]["why"] == "a value lies outside the range of the training records"
    assert found[0]["left_to_clinician"]["why"] == "a value lies outside the range of the training records"
    limited = replace(bare, held_out=HeldOut(source="", greatest_score=-1e9))
    far = decided(limited, np.zeros((1, 2), np.float32), Records(x=torch.zeros(1, 30)))
    assert "unlike the held-out records" in far[0]["left_to_clinician"]["why"]


FLOATS = st.floats(-60, 60, width=32)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=40),
    near=st.lists(st.tuples(FLOATS, st.integers(-3, 3)), max_size=20),
    temperature=st.floats(0.05, 20),
)
def test_the_class_is_on_the_side_of_the_threshold_that_is_shown(
    at_point: Online, rows: list[tuple[float, float]], near: list[tuple[float, int]], temperature: float
) -> None:
    point = at_point.model.point
    assert point is not None
    logits = np.array(rows, np.float32)
    if near:  # records on the threshold, and a few units of rounding beside it
        first = np.array([z for z, _ in near], np.float32)
        second = first - np.float32(point.shift)
        second = second + np.array([steps for _, steps in near], np.float32) * np.spacing(np.abs(second))
        logits = np.concatenate([logits, np.stack([first, second], 1)])
    online = replace(at_point, held_out=replace(at_point.held_out, temperature=temperature))
    found = decided(online, logits, Records(x=torch.zeros(len(logits), 30)))
    threshold = float(expit(-point.shift / temperature))
    raw = logits.astype(float)
    # Where rounding cannot decide, class and probability agree by the threshold itself.
    clear = np.abs(raw[:, 1] + point.shift - raw[:, 0]) > 1e-6 * np.maximum(1, np.abs(raw).max(1))
    above = expit((raw[:, 1] - raw[:, 0]) / temperature) >= threshold
    assert all((one["class_index"] == 1) == above[row] for row, one in enumerate(found) if clear[row])
    for one in found:
        shown, name = one["decided_at"], one["decided_at"]["class_name"]
        assert name == "malignant" and (one["class_name"] == name) == (one["class_index"] == 1)
        assert (one["class_index"] == 1) == (one["probabilities"][name] >= shown["threshold"])
        assert (one["class_index"] == 1) == (shown["uncalibrated_probability"] >= shown["uncalibrated_threshold"])
        # Rounding alone may move what is shown.
        assert shown["threshold"] == pytest.approx(threshold, abs=2e-4)
        assert shown["uncalibrated_threshold"] == pytest.approx(point.threshold, abs=1e-4)


@pytest.mark.parametrize("fault", ["calibrated", "uncalibrated"])
@pytest.mark.parametrize("is_decided", [True, False])
def test_a_threshold_that_disagrees_with_the_class_is_not_moved_to_it(fault: str, is_decided: bool) -> None:
    point = OperatingPoint(threshold=0.5, shift=0.0, sensitivity=0.8, chosen_on="fixed")
    side = 1 if is_decided else -1
    given: dict[str, Any] = {"calibrated": 0.5 + 0.1 * side, "uncalibrated": 0.5 + 0.1 * side}
    asked: dict[str, Any] = {"decided": is_decided, "logits": np.zeros(2), "temperature": 1.0}
    assert decided_at(point, "ill", **asked, **given)["threshold"] == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="rule of decision and threshold disagree"):
        decided_at(point, "ill", **asked, **given | {fault: 0.5 - 1e-5 * side})


def test_calibrated_probabilities_stand_beside_a_calibrated_threshold(at_point: Online, online: Online) -> None:
    hot = replace(at_point, held_out=replace(at_point.held_out, temperature=4.0))
    for one in answers(hot)["answers"]:
        shown = one["decided_at"]
        assert (one["class_name"] == "malignant") == (one["probabilities"]["malignant"] >= shown["threshold"])
        assert shown["threshold"] != pytest.approx(shown["uncalibrated_threshold"], abs=1e-3)
    assert all("decided_at" not in one for one in answers(online)["answers"])
