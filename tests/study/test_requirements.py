"""A requirement says one thing however it is written, or the error says how to write it."""

from collections.abc import Callable
from typing import Any

import pytest

from assay.errors import SpecError
from assay.report.foresight import showable
from assay.study.reading import build_study
from assay.study.requirements import METRICS, Requirement, digest
from assay.study.spec import Study, with_one_recipe
from assay.study.sweep_goals import GOALS
from tests.mistakes import refused


def read(given: Any) -> Requirement:
    return Requirement.model_validate(given)


@pytest.mark.parametrize(
    ("written", "text", "metric", "direction", "limit"),
    [
        ("accuracy >= 0.90", "accuracy ≥ 90 %", "accuracy", "at_least", 0.9),
        ("Accuracy ≥ 90 %", "accuracy ≥ 90 %", "accuracy", "at_least", 0.9),
        ("sensitivity > 9/10", "sensitivity > 90 %", "sensitivity", "more_than", 0.9),
        ("balanced_accuracy>=0.8", "balanced accuracy ≥ 80 %", "balanced_accuracy", "at_least", 0.8),
        ("AUROC >= 0.95", "AUROC ≥ 0.95", "auroc", "at_least", 0.95),
        ("epsilon <= 1", "ε claimed ≤ 1", "epsilon", "at_most", 1),
        ("ε < 8", "ε claimed < 8", "epsilon", "less_than", 8),
        ("faithfulness > 0", "faithfulness > 0", "faithfulness", "more_than", 0),
        ("fidelity gain > 0", "fidelity gain > 0", "fidelity_gain", "more_than", 0),
        ("calibration error <= 0.05", "calibration error ≤ 0.05", "calibration_error", "at_most", 0.05),
    ],
)
def test_a_requirement_in_words_is_a_metric_a_direction_and_a_limit(
    written: str, text: str, metric: str, direction: str, limit: float
) -> None:
    found = read(written)
    assert (found.text, found.metric, found.direction, found.limit) == (text, metric, direction, limit)


def test_conditions_are_read_and_choose_the_rows_that_answer() -> None:
    worst = read("worst case at epsilon 8/255 >= 0.7")
    assert (worst.text, worst.conditions) == ("worst case at ε = 8/255 ≥ 70 %", {"epsilon": 8 / 255})
    leaks = read("membership TPR at 10 % FPR <= 12 %")
    assert leaks.conditions == {"false_positive_rate": pytest.approx(0.1)}
    assert (leaks.text, leaks.limit) == ("membership TPR at 10 % FPR ≤ 12 %", pytest.approx(0.12))
    assert read("certified at ε = 0.3 >= 0.5").conditions == {"epsilon": 0.3, "method": "interval bounds"}


def test_faithfulness_is_that_of_the_default_method_and_a_fidelity_gain_is_over_a_random_order() -> None:
    assert read("faithfulness > 0").conditions == {"primary": True}
    assert read("faithfulness > 0").about.measurement == "faithfulness"
    assert read("fidelity gain > 0").about.measurement == "insertion_gain"
    assert read("fidelity gain > 0").conditions == {
        "method": "integrated_gradients",
        "replacement": "panel",
        "against": "random order",
    }


@pytest.mark.parametrize(
    ("written", "metric", "direction", "limit"),
    [
        ("loses at most 3 points against standard", "accuracy", "at_least", -0.03),
        ("accuracy loses at most 0.03 against standard", "accuracy", "at_least", -0.03),
        ("sensitivity gains at least 5 % against standard", "sensitivity", "at_least", 0.05),
        ("calibration error loses at most 0.02 against standard", "calibration_error", "at_most", 0.02),
        ("calibration error gains at least 0.02 against standard", "calibration_error", "at_most", -0.02),
    ],
)
def test_a_margin_is_a_limit_of_the_difference(written: str, metric: str, direction: str, limit: float) -> None:
    found = read(written)
    assert (found.metric, found.direction, found.against) == (metric, direction, "standard")
    assert found.limit == pytest.approx(limit)


def test_a_mapping_says_the_same_and_survives_being_written_down() -> None:
    given = {"metric": "worst_case", "direction": "at_least", "limit": 0.7, "epsilon": "3/10"}
    words = read("worst case at epsilon 0.3 >= 70 %")
    assert read(given) == words
    assert read(words.model_dump(mode="json")) == words


def test_every_metric_and_every_goal_of_a_sweep_has_a_direction() -> None:
    assert {about.better for about in METRICS.values()} == {"higher", "lower"}
    assert {key: goal.better for key, goal in GOALS.items()} == {
        "accuracy": "higher",
        "robust": "higher",
        "epsilon": "lower",
        "cost": "lower",
    }


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_can_be_written_by_its_title_and_its_key(key: str) -> None:
    about = METRICS[key]
    where = " at epsilon 0.1" * about.radius + " at 10 % FPR" * about.rate
    sign = ">=" if about.better == "higher" else "<="
    assert read(f"{about.title}{where} {sign} 0.5") == read(f"{key}{where} {sign} 0.5")


@pytest.mark.parametrize(
    ("written", "setting", "given"),
    [
        ("accurate enough", "", "accurate enough"),
        ("accuracy >= high", "", "accuracy >= high"),
        (0.9, "", 0.9),
        ("acuracy >= 0.9", "metric", "acuracy"),
        ("loses at most 3 points", "", "loses at most 3 points"),
        ("accuracy >= 90", "limit", 90.0),
        ("accuracy <= 0.9", "direction", "at_most"),
        ("epsilon >= 1", "direction", "at_least"),
        ("worst case >= 0.7", "epsilon", None),
        ("membership TPR <= 12 %", "fpr", None),
        ("accuracy at epsilon 0.3 >= 0.7", "epsilon", 0.3),
        ("epsilon loses at most 1 against standard", "against", "standard"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_what_was_given(
    tiny: Callable[..., Study], written: Any, setting: str, given: Any
) -> None:
    with refused(SpecError, f"cohorts.made.requirements.0{setting and '.'}{setting}", given):
        tiny(cohort={"requirements": [written], "candidates": ["slow"]})


REQUIRED = {"requirements": ["accuracy >= 0.9", "epsilon <= 1"], "candidates": ["slow"]}


def test_a_study_with_requirements_survives_being_written_down(tiny: Callable[..., Study]) -> None:
    study = tiny(cohort=REQUIRED)
    assert build_study(study.model_dump(mode="json"), "again") == study


def test_one_recipe_alone_is_held_against_nothing(tiny: Callable[..., Study]) -> None:
    one = with_one_recipe(tiny(cohort=REQUIRED), cohort=None, recipe="standard", fold=1)
    assert (one.cohorts["made"].requirements, one.cohorts["made"].candidates) == ((), ())


def test_a_quick_look_may_leave_out_what_a_requirement_is_about(tiny: Callable[..., Study]) -> None:
    study = tiny(cohort={**REQUIRED, "requirements": ["accuracy >= 0.9", "faithfulness > 0"]})
    said = [one.text for one in showable(study, {})]
    assert said[1] == "nothing: the evaluation 'explanations' is not asked" != said[0]


@pytest.mark.parametrize(
    ("change", "setting", "given"),
    [
        ({"candidates": ["slwo"]}, "candidates", "slwo"),
        ({"candidates": []}, "candidates", []),
        ({"requirements": []}, "requirements", []),
        ({"candidates": ["slow", "slow"]}, "candidates", "slow"),
        ({"requirements": ["accuracy >= 0.9", "accuracy >= 90 %"]}, "requirements", "accuracy ≥ 90 %"),
        ({"requirements": ["loses at most 3 points against standrad"]}, "requirements", "standrad"),
    ],
)
def test_requirements_that_no_cohort_can_answer_are_refused(
    tiny: Callable[..., Study], change: dict[str, Any], setting: str, given: Any
) -> None:
    with refused(SpecError, f"cohorts.made.{setting}", given):
        tiny(cohort={**REQUIRED, **change})


def test_a_radius_or_a_rate_that_is_not_measured_is_refused(tiny: Callable[..., Study]) -> None:
    asked = ["accuracy", {"name": "robustness", "epsilons": [0.1, 0.2]}, "membership"]
    for requirement, given in (("worst case at epsilon 0.3 >= 0.5", 0.3), ("membership TPR at 3 % FPR <= 0.1", 0.03)):
        with refused(SpecError, "cohorts.made.requirements", given):
            tiny(cohort={"evaluations": asked, "requirements": [requirement], "candidates": ["slow"]})
    tiny(cohort={"evaluations": asked, "requirements": ["worst case at epsilon 0.2 >= 0.5"], "candidates": ["slow"]})


def test_the_hash_is_of_what_is_meant() -> None:
    words, other = read("accuracy >= 0.9"), read("sensitivity >= 0.9")
    same = read({"metric": "accuracy", "direction": "at_least", "limit": 0.9})
    assert digest([words, other], ["a", "b"]) == digest([other, same], ["b", "a"])
    assert digest([words], ["a"]) != digest([read("accuracy >= 0.91")], ["a"])
    assert digest([words], ["a"]) != digest([words], ["b"])
