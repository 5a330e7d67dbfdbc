"""A measurement cannot be separated from how, and how surely, it was measured."""

import dataclasses
import math
import pickle
from dataclasses import replace
from typing import get_args

import pytest

from assay.results import REASONS, Check, Flag, Measurement, ReasonCode, TrialRecord, Verdict, beside, not_applicable

ACCURACY = Measurement(name="accuracy", value=0.9, n=100, low=0.83, high=0.94)


def record(**given: object) -> TrialRecord:
    return TrialRecord(trial="t", dataset="d", model="m", recipe="r", fold=2, repeat=1, **given)  # type: ignore[arg-type]


def test_a_measured_value_is_never_nan() -> None:
    with pytest.raises(ValueError, match="accuracy: a measured value cannot be NaN; give it a status and a reason"):
        Measurement(name="accuracy")


@pytest.mark.parametrize("status", ["abstained", "not_applicable", "failed"])
def test_what_was_not_measured_says_why(status: str) -> None:
    with pytest.raises(ValueError, match=f"accuracy is {status}: the reason must stand in its warnings"):
        Measurement(name="accuracy", status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["abstained", "not_applicable", "failed"])
def test_what_was_not_measured_has_no_value(status: str) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        Measurement(name="accuracy", value=0.0, status=status, warnings=("no records",))  # type: ignore[arg-type]


def test_a_question_that_cannot_be_asked_keeps_its_conditions_and_reason() -> None:
    answer = not_applicable("tpr", "too few non-members", fpr=0.001)
    assert answer.status == "not_applicable"
    assert math.isnan(answer.value)
    assert answer.conditions == {"fpr": 0.001}
    assert answer.warnings == ("too few non-members",)


def test_why_there_is_no_value_is_a_code_beside_the_words() -> None:
    assert set(get_args(ReasonCode)) == set(REASONS)
    assert not_applicable("tpr", "few", reason="too_few_records", fpr=0.1).reason == "too_few_records"
    assert Measurement(name="tpr", status="failed", warnings=("odd",)).reason == "unspecified"
    with pytest.raises(ValueError, match=r"given the reason 'gone'; allowed: not_private, "):
        not_applicable("tpr", "few", reason="gone")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none of a measured value"):
        replace(ACCURACY, reason="no_records")


def test_warnings_accumulate_and_the_first_measurement_stays() -> None:
    assert ACCURACY.warn("a").warn("b", "c").warnings == ("a", "b", "c")
    assert ACCURACY.warnings == ()


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ACCURACY.value = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("verdict", ["pass", "inconclusive", "warn", "fail"])
def test_a_check_that_did_not_pass_stands_beside_what_it_concerns(verdict: Verdict) -> None:
    check = Check(rule="steps", concerns="accuracy", verdict=verdict, figure=0.1, message="m")
    other = Measurement(name="loss", value=1.0)
    judged, untouched, row = beside([ACCURACY, other], [check])
    assert judged.flags == (
        () if verdict in ("pass", "inconclusive") else (Flag(verdict=verdict, message="m", rule="steps"),)
    )
    assert replace(judged, flags=()) == ACCURACY
    assert untouched == other
    assert (row.name, row.value, row.warnings) == ("check.steps", 0.1, ("m",))
    assert (row.kind, row.rule, row.verdict, row.concerns) == ("check", "steps", verdict, ("accuracy",))
    assert row.conditions == {} and Check.of(row) == check


def test_a_check_says_nothing_more_of_what_was_not_measured() -> None:
    absent = not_applicable("accuracy", "no records")
    check = Check(rule="steps", concerns="accuracy", verdict="fail", figure=0.1, message="m")
    assert beside([absent], [check])[0] == absent


def test_a_trial_has_one_row_a_measurement() -> None:
    rows = list(record(measurements=(ACCURACY, not_applicable("tpr", "few"))).rows())
    assert [row["name"] for row in rows] == ["accuracy", "tpr"]
    assert rows[0] == {
        "trial": "t",
        "dataset": "d",
        "model": "m",
        "recipe": "r",
        "fold": 2,
        "repeat": 1,
        "name": "accuracy",
        "value": 0.9,
        "unit": "fraction",
        "conditions": {},
        "n": 100,
        "low": 0.83,
        "high": 0.94,
        "status": "measured",
        "warnings": (),
        "reason": None,
        "flags": (),
        "kind": "measurement",
        "rule": "",
        "verdict": None,
        "concerns": (),
        "outcomes": None,
    }


def test_a_failed_trial_is_one_row_that_says_why() -> None:
    failed = record(error="the loss is nan")
    (row,) = failed.rows()
    assert failed.failed
    assert (row["name"], row["status"], row["warnings"]) == ("trial", "failed", ("the loss is nan",))


def test_a_trial_without_measurements_is_never_without_rows() -> None:
    (row,) = record().rows()
    assert row["status"] == "failed"
    assert not record().failed


def test_results_survive_pickling() -> None:
    whole = record(measurements=(ACCURACY,), weights=b"w")
    assert pickle.loads(pickle.dumps(whole)).measurements == whole.measurements
