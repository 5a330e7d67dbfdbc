"""From rows to a scorecard: paired, corrected, and blind to which radius would look best."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from assay import statistics
from assay.report.scorecard import Scorecard, columns, everything, scorecard, select, share_tested, table
from assay.results import Measurement, TrialRecord
from assay.study.spec import Study
from assay.study.store import Store

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")
SOME = {"accuracy", "worst_case_accuracy"}
# Three folds, 15 % validation: a third is tested, 0.85 of the rest is trained on.
SHARE = (1 / 3) / (2 / 3 * 0.85)


def trials(trial: Trial, bases: dict[str, tuple[float, ...]]) -> list[TrialRecord]:
    """Trials of the given accuracies, fold by fold."""
    return [trial(recipe, i, base=base, only=SOME) for recipe, row in bases.items() for i, base in enumerate(row)]


def test_each_cell_is_the_mean_over_folds_with_its_corrected_interval(card: Scorecard) -> None:
    cell = card.cells["private", "accuracy"].summary
    expected = statistics.summarise([0.8, 0.81, 0.82], test_share=SHARE)
    assert (cell.mean, cell.low, cell.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert cell.count == 3
    assert card.cells["standard", "robust"].summary.mean == pytest.approx(0.91 - 0.45)
    assert card.recipes == ALL


def test_the_share_of_tested_records_is_that_of_the_split(study: MakeStudy) -> None:
    assert share_tested(study()) == pytest.approx(SHARE)
    assert share_tested(study(split={"folds": 5, "validation": 0.2, "calibration": 0.3})) == pytest.approx(
        0.2 / (0.8 * 0.5)
    )
    assert share_tested(study(split={"folds": 1})) == 0


def test_the_reference_radius_is_the_one_of_the_study(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial("standard", fold, only={"worst_case_accuracy"}) for fold in range(3)]
    card = scorecard(study(cohort={"reference_epsilon": 0.1}), "made", frame(study(), records))
    assert card.reference_epsilon == 0.1
    assert next(c.title for c in card.evidence if c.key == "robust") == "Worst case, ε = 0.1"
    assert card.cells["standard", "robust"].summary.mean == pytest.approx(0.91 - 0.15)


def test_without_one_the_reference_radius_is_the_middle_one_whatever_was_found(
    study: MakeStudy, frame: Frame, trial: Trial
) -> None:
    asked = study({"standard": {}}, {"reference_epsilon": None})
    for base in (0.0, 0.5, 1.0):
        records = [trial("standard", fold, base=base, only=SOME) for fold in range(3)]
        assert scorecard(asked, "made", frame(asked, records)).reference_epsilon == 0.3


def test_recipes_are_compared_in_pairs_of_folds(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial("standard", fold, only=SOME) for fold in range(3)]
    records += [trial("private", fold, base=base, only=SOME) for fold, base in enumerate((0.80, 0.85, 0.78))]
    card = scorecard(study(), "made", frame(study(), records))
    expected = statistics.compare([0.80, 0.86, 0.80], [0.90, 0.91, 0.92], test_share=SHARE)
    assert card.comparisons["private", "accuracy"].p == pytest.approx(expected.p)
    assert card.comparisons["private", "accuracy"].difference == pytest.approx(-0.09)
    assert ("standard", "accuracy") not in card.comparisons
    assert ("fed", "accuracy") not in card.comparisons


def test_only_folds_that_both_recipes_have_are_compared(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial("standard", fold, only=SOME) for fold in (0, 1, 2)]
    records += [trial("private", fold, base=base, only=SOME) for fold, base in ((1, 0.7), (2, 0.9))]
    found = scorecard(study(), "made", frame(study(), records)).comparisons["private", "accuracy"]
    assert found.count == 2
    assert found.difference == pytest.approx(((0.71 - 0.91) + (0.92 - 0.92)) / 2)


def test_holm_is_taken_over_the_recipes_of_each_figure(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = {"standard": (0.9, 0.88, 0.91), "private": (0.8, 0.85, 0.78), "fed": (0.88, 0.86, 0.9)}
    records = trials(trial, bases)
    card = scorecard(study(), "made", frame(study(), records))
    for key in ("accuracy", "robust"):
        ps = [card.comparisons[recipe, key].p for recipe in ("private", "fed")]
        assert [card.comparisons[recipe, key].p_holm for recipe in ("private", "fed")] == statistics.holm(ps)


def test_what_cannot_be_better_or_worse_is_not_compared(card: Scorecard) -> None:
    assert not [key for _, key in card.comparisons if key.startswith("epsilon")]
    assert not [key for key in card.anova if key.startswith("epsilon")]


def test_the_analysis_of_variance_takes_complete_folds(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = {"standard": (0.9, 0.88, 0.91), "private": (0.8, 0.85, 0.78), "fed": (0.88, 0.86)}
    records = trials(trial, bases)
    card = scorecard(study(), "made", frame(study(), records))
    values = np.array([[0.9, 0.8, 0.88], [0.89, 0.86, 0.87]])
    assert card.anova["accuracy"].f == pytest.approx(statistics.blocked_anova(values).f)


def test_the_same_for_all_needs_no_analysis(card: Scorecard) -> None:
    assert "membership" not in card.anova


def test_checks_are_counted_over_folds_and_the_worst_is_told(card: Scorecard) -> None:
    checks = card.checks.set_index(["recipe", "rule"])
    doubled = checks.loc[("private", "step_doubling")]
    assert (doubled["verdict"], doubled["raised"], doubled["count"], doubled["figure"]) == ("warn", 2, 3, 0.04)
    assert doubled["message"] == "step_doubling found 0.04"
    assert checks.loc[("fed", "zero_gradients"), ["verdict", "raised"]].tolist() == ["fail", 1]
    assert checks.loc[("standard", "zero_gradients"), "verdict"] == "pass"


def test_what_the_checks_said_stands_beside_the_figure(card: Scorecard) -> None:
    warned, failed = card.cells["private", "robust"], card.cells["fed", "robust"]
    assert (warned.warnings, warned.failed) == (("step_doubling found 0.04 [2 of 3 folds]",), False)
    assert (failed.warnings, failed.failed) == (("zero_gradients found 0.2 [1 of 3 folds]",), True)
    assert card.cells["standard", "robust"].warnings == ()
    assert card.cells["private", "epsilon"].warnings == ("experiment, not releasable: the noise is seeded",)


def test_what_is_missing_says_why(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial(recipe, fold, only={"epsilon"}) for recipe in ("standard", "private") for fold in range(3)]
    card = scorecard(study(), "made", frame(study(), records))
    missing = card.cells["standard", "epsilon"]
    assert (missing.summary, missing.why) == (None, "the recipe is not private (ε = ∞)")
    assert card.cells["fed", "accuracy"].why == "no trial has finished"


def test_a_figure_that_was_never_asked_for_is_no_unfinished_trial(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial("standard", fold, measurements=(Measurement(name="accuracy", value=0.9),)) for fold in range(3)]
    card = scorecard(study(), "made", frame(study(), records))
    assert card.cells["standard", "insertion"].why != "no trial has finished"


def test_a_measurement_that_failed_is_marked(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    broken = Measurement(name="epsilon", status="failed", warnings=("δ is above 1/n",))
    records = [trial("private", fold, measurements=(broken,)) for fold in range(3)]
    cell = scorecard(study(), "made", frame(study(), records)).cells["private", "epsilon"]
    assert (cell.summary, cell.why, cell.failed) == (None, "δ is above 1/n", True)


def test_one_fold_shows_its_own_interval(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    card = scorecard(study(), "made", frame(study(), [trial("standard", 0)]))
    cell = card.cells["standard", "accuracy"].summary
    assert (cell.mean, cell.low, cell.high, cell.count) == pytest.approx((0.9, 0.8, 1.0, 1))
    assert card.comparisons == {}
    assert card.anova == {}


def test_nothing_at_all_is_a_scorecard_too(study: MakeStudy, frame: Frame) -> None:
    card = scorecard(study(cohort={"reference_epsilon": None}), "made", frame(study(), []))
    assert all(cell.summary is None for cell in card.cells.values())
    assert math.isnan(card.reference_epsilon)
    assert len(card.checks) == 0


def test_failed_trials_leave_the_others_alone(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [trial("standard", 0), trial("standard", 1), trial("standard", 2, error="ValueError: odd")]
    cell = scorecard(study(), "made", frame(study(), records)).cells["standard", "accuracy"]
    assert cell.summary.count == 2


def test_values_stand_by_fold_and_repeat(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    records = [
        trial("standard", fold, repeat=repeat, trial=f"{fold}{repeat}") for fold in range(3) for repeat in range(2)
    ]
    column = next(c for c in columns(0.3) if c.key == "accuracy")
    found = table(frame(study(), records), column, ALL)
    assert found.index.tolist() == [(repeat, fold) for repeat in range(2) for fold in range(3)]
    assert found["standard"].tolist() == pytest.approx([0.90, 0.91, 0.92] * 2)
    assert found[["private", "fed"]].isna().all(axis=None)


def test_everything_measured_is_a_line_for_each_condition(whole: Store) -> None:
    lines = {(line.name, line.conditions): line for line in everything(whole.frame(), ALL, SHARE)}
    worst = lines["worst_case_accuracy", "epsilon 0.3"].by_recipe
    assert {recipe: summary.mean for recipe, summary in worst.items()} == pytest.approx(
        {"standard": 0.46, "private": 0.36, "fed": 0.41}
    )
    assert set(lines["epsilon", ""].by_recipe) == {"private"}
    assert ("robust_accuracy", "attack fgsm, epsilon 0.1") in lines
    assert not [name for name, _ in lines if name.startswith("check.")]


def test_rows_are_selected_by_their_conditions(whole: Store) -> None:
    frame = whole.frame()
    rows = select(frame, "membership_tpr", false_positive_rate=0.1)
    assert set(rows["status"]) == {"measured"}
    assert len(select(frame, "worst_case_accuracy", epsilon=0.3)) == 9
    assert len(select(frame, "worst_case_accuracy", epsilon=0.31)) == 0
    # What did not apply has no conditions and answers for all of them.
    assert len(select(frame, "epsilon", accountant="rdp")) == 9
