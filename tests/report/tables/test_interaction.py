"""Four recipes are found by what they are, and what they do together is told beside the sum of what each does alone."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from assay.report.designs import FactorialDesign, factorial_designs
from assay.report.scorecard import scorecard
from assay.report.tables.interaction import Interaction, interactions
from assay.results import Measurement, TrialRecord
from assay.study.spec import Study

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

PGD = {"name": "pgd", "epsilon": 0.3}
FOUR: dict[str, Any] = {
    "a": {},
    "b": {"objective": PGD},
    "c": {"privacy": {"epsilon": 1}, "training": {"epochs": 3}},
    "d": {"objective": PGD, "privacy": {"epsilon": 1}, "training": {"epochs": 3}},
}
# Mean of each figure, and what a fold adds to it.
MADE = {
    "accuracy": {"a": 0.95, "b": 0.90, "c": 0.85, "d": 0.80},
    "worst_case_accuracy": {"a": 0.10, "b": 0.60, "c": 0.20, "d": 0.40},
    "membership_tpr": {"a": 0.10, "b": 0.30, "c": 0.10, "d": 0.10},
}
WHERE = {
    "worst_case_accuracy": {"epsilon": 0.3, "norm": "linf"},
    "membership_tpr": {"false_positive_rate": 0.1},
}
# Of each figure and fold, beside what all four share: it makes contrasts differ.
WOBBLE = {"a": (0.001, -0.002, 0.001), "b": (0.0, 0.002, -0.001), "c": (-0.001, 0.0, 0.002), "d": (0.0, 0.001, 0.0)}


def figures(recipe: str, fold: int) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(
            name=name,
            value=own[recipe] + fold / 100 + WOBBLE[recipe][fold],
            n=20,
            conditions=WHERE.get(name, {}),
            low=0.0,
            high=1.0,
        )
        for name, own in MADE.items()
    )


@pytest.fixture
def tell(study: MakeStudy, frame: Frame, trial: Trial) -> Callable[..., list[Interaction]]:
    """What the page would tell of the four recipes, in so many folds."""

    def build(folds: int = 3, recipes: dict[str, Any] = FOUR) -> list[Interaction]:
        asked = study(recipes)
        rows = frame(asked, [trial(r, fold, measurements=figures(r, fold)) for r in recipes for fold in range(folds)])
        return interactions(scorecard(asked, "made", rows), asked, rows)

    return build


def test_the_four_are_known_by_what_they_are(study: MakeStudy) -> None:
    recipes = study({"other": {"privacy": {"epsilon": 3}}, **FOUR}).cohorts["made"].recipes
    assert list(factorial_designs(recipes)) == [FactorialDesign(neither="a", adversarial="b", private="c", both="d")]


@pytest.mark.parametrize(
    "changed",
    [
        {"d": {"objective": PGD, "privacy": {"epsilon": 2}, "training": {"epochs": 3}}},
        {"d": {"objective": {**PGD, "epsilon": 0.1}, "privacy": {"epsilon": 1}, "training": {"epochs": 3}}},
        {"d": {"objective": PGD, "privacy": {"epsilon": 1}, "training": {"epochs": 4}}},
        {"b": {"objective": PGD, "training": {"epochs": 4}}},
        {"b": {"objective": PGD, "federation": {"clients": 3}}},
        {"a": {"data": ["flip"]}, "b": {"data": ["flip"], "objective": PGD}},
        {"b": {"objective": {"name": "distillation"}}, "d": {"objective": {"name": "distillation"}}},
    ],
    ids=["budget", "radius", "length of both", "length of one", "federation", "data", "not adversarial"],
)
def test_four_that_differ_by_anything_else_say_nothing_of_an_interaction(
    study: MakeStudy, changed: dict[str, Any]
) -> None:
    assert list(factorial_designs(study({**FOUR, **changed}).cohorts["made"].recipes)) == []


def test_each_figure_has_its_own_interaction_and_holm_counts_them_all(tell: Callable[..., list[Interaction]]) -> None:
    (found,) = tell()
    assert found.retuned
    assert list(found.tests) == ["accuracy", "robust", "membership"]
    accuracy, robust, membership = found.tests.values()
    assert accuracy.comparison.difference == pytest.approx(0.0, abs=0.002)
    assert accuracy.comparison.verdict == "inconclusive"
    # 0.40 − 0.60 − 0.20 + 0.10, and 0.10 − 0.30 − 0.10 + 0.10, beside the wobble.
    assert robust.comparison.difference == pytest.approx(-0.3, abs=0.003)
    assert membership.comparison.difference == pytest.approx(-0.2, abs=0.003)
    assert (robust.comparison.verdict, membership.comparison.verdict) == ("lower", "lower")
    ps = sorted(test.comparison.p for test in found.tests.values())
    assert min(test.comparison.p_holm for test in found.tests.values()) == pytest.approx(3 * ps[0])


def test_words_say_what_is_good_and_what_is_not_shown(tell: Callable[..., list[Interaction]]) -> None:
    (found,) = tell()
    accuracy, robust, membership = (test.reading for test in found.tests.values())
    assert "adversarial training changes it by +50.0 points and privacy by +10.0 points" in robust
    assert "together they change it by +30.0 points, where the sum would be +60.1 points" in robust
    assert robust.endswith("worse than the sum of their effects.")
    assert membership.endswith("better than the sum of their effects.")  # fewer records are recognised
    assert "not shown: only" in accuracy


def test_the_area_of_lira_is_that_of_one_mode(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    areas = tuple(
        Measurement(name="lira_auc", value=value, n=20, conditions={"mode": mode, "attack": f"LiRA {mode}"})
        for mode, value in (("offline", 0.5), ("online", 0.7))
    )
    asked = study(FOUR)
    rows = frame(asked, [trial(r, fold, measurements=(*figures(r, fold), *areas)) for r in FOUR for fold in range(2)])
    (found,) = interactions(scorecard(asked, "made", rows), asked, rows)
    summary = found.table.cells["a", "lira area"].summary
    assert summary is not None and summary.mean == 0.7


def test_one_run_is_shown_and_not_tested(tell: Callable[..., list[Interaction]]) -> None:
    (found,) = tell(folds=1)
    assert found.tests == {}
    assert found.table.cells["d", "robust"].summary is not None


def test_nothing_measured_is_no_table(tell: Callable[..., list[Interaction]]) -> None:
    assert tell(folds=0) == []


def test_without_all_four_there_is_no_table(tell: Callable[..., list[Interaction]]) -> None:
    assert tell(recipes={name: recipe for name, recipe in FOUR.items() if name != "d"}) == []
