"""From rows to a scorecard: paired, corrected, and blind to which radius would look best."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Literal, cast

import numpy as np
import pandas as pd
import pytest

from assay import statistics
from assay.data.base import Source
from assay.design import Design
from assay.report.lines import everything
from assay.report.rows import runs_of, select, values_by_run
from assay.report.scorecard import Scorecard, design_of, scorecard, share_tested
from assay.report.sections.checks import ChecksSection
from assay.report.view import View
from assay.report.words import records_text
from assay.results import Check, Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")
SOME = {"accuracy", "worst_case_accuracy"}
# Three folds, 15 % validation: a third is tested, 0.85 of the rest is trained on.
SHARE = (1 / 3) / (2 / 3 * 0.85)
FOLDS = Design(folds=3, repeats=1, test_share=SHARE)


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
    stronger = checks.loc[("private", "stronger_attack")]
    assert (stronger["verdict"], stronger["raised"], stronger["count"], stronger["figure"]) == ("warn", 2, 3, 0.04)
    assert stronger["message"] == "stronger_attack found 0.04"
    assert checks.loc[("fed", "zero_gradients"), ["verdict", "raised"]].tolist() == ["fail", 1]
    assert checks.loc[("standard", "zero_gradients"), "verdict"] == "pass"


def test_what_the_checks_said_stands_beside_the_figure(card: Scorecard) -> None:
    warned, failed = card.cells["private", "robust"], card.cells["fed", "robust"]
    assert (warned.warnings, warned.failed) == (("stronger_attack found 0.04 [2 of 3 folds]",), False)
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
    assert card.cells["standard", "faithfulness"].why != "no trial has finished"


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
    rows = select(frame(study(), records), "accuracy")
    found = values_by_run({recipe: runs_of(rows[rows["recipe"] == recipe]) for recipe in ALL})
    assert found.index.tolist() == [(repeat, fold) for repeat in range(2) for fold in range(3)]
    assert found["standard"].tolist() == pytest.approx([0.90, 0.91, 0.92] * 2)
    assert found[["private", "fed"]].isna().all(axis=None)


def test_everything_measured_is_a_line_for_each_condition(whole: Store) -> None:
    lines = {(line.name, line.conditions): line for line in everything(whole.frame(), ALL, FOLDS)}
    worst = lines["worst_case_accuracy", "epsilon 0.3"].by_recipe
    assert {recipe: summary.mean for recipe, summary in worst.items()} == pytest.approx(
        {"standard": 0.46, "private": 0.36, "fed": 0.41}
    )
    assert set(lines["epsilon", ""].by_recipe) == {"private"}
    assert ("robust_accuracy", "attack fgsm, epsilon 0.1") in lines
    assert not [name for name, _ in lines if name.startswith("check.")]
    frame = whole.frame()
    measured = frame[(frame["status"] == "measured") & (frame["kind"] == "measurement")]
    assert list(dict.fromkeys(name for name, _ in lines)) == list(dict.fromkeys(measured["name"]))


def test_rows_are_selected_by_their_conditions(whole: Store) -> None:
    frame = whole.frame()
    rows = select(frame, "membership_tpr", false_positive_rate=0.1)
    assert set(rows["status"]) == {"measured"}
    assert len(select(frame, "worst_case_accuracy", epsilon=0.3)) == 9
    assert len(select(frame, "worst_case_accuracy", epsilon=0.31)) == 0
    # What did not apply has no conditions and answers for all of them.
    assert len(select(frame, "epsilon", accountant="rdp")) == 9


# An official split: the runs are seeds, asked of the same records.


def test_cells_of_an_official_split_join_seeds_and_records(card_of_seeds: Scorecard) -> None:
    assert card_of_seeds.design == Design(folds=1, repeats=4, official=True)
    cell = card_of_seeds.cells["private", "accuracy"].summary
    seeds = statistics.summarise([0.80, 0.81, 0.82, 0.83], test_share=0)
    # Each seed's own interval reaches 0.1 to both sides.
    reach = math.hypot(0.1, seeds.high - seeds.mean)
    assert (cell.mean, cell.low, cell.high, cell.count) == pytest.approx((0.815, 0.815 - reach, 0.815 + reach, 4))


def test_recipes_on_an_official_split_are_paired_by_seed(card_of_seeds: Scorecard) -> None:
    # Every pair of seeds differs by a tenth: only the records are uncertain, by 0.1 on each side.
    found = card_of_seeds.comparisons["private", "accuracy"]
    reach = math.hypot(0.1, 0.1)
    assert (found.difference, found.low, found.high) == pytest.approx((-0.1, -0.1 - reach, -0.1 + reach))
    assert (found.count, found.verdict) == (4, "inconclusive")


def test_every_place_of_the_page_shows_the_same_interval(card_of_seeds: Scorecard, seeds: Store) -> None:
    lines = {(line.name, line.conditions): line for line in everything(seeds.frame(), ALL, card_of_seeds.design)}
    assert lines["accuracy", ""].by_recipe["fed"] == card_of_seeds.cells["fed", "accuracy"].summary
    worst = lines["worst_case_accuracy", "epsilon 0.3"].by_recipe["fed"]
    assert worst == card_of_seeds.cells["fed", "robust"].summary


def test_checks_of_an_official_split_are_counted_over_seeds(
    official: Study, frame: Frame, of_seeds: list[TrialRecord]
) -> None:
    raised = Check(
        rule="stronger_attack",
        concerns="worst_case_accuracy",
        verdict="warn",
        figure=0.1,
        message="not converged",
    ).measurement()
    records = [replace(of_seeds[0], measurements=(*of_seeds[0].measurements, raised)), *of_seeds[1:4]]
    card = scorecard(official, "made", frame(official, records))
    assert card.cells["standard", "robust"].warnings == ("not converged [1 of 4 seeds]",)


def test_an_inconclusive_check_is_counted_by_itself_and_speaks_against_nothing(
    official: Study, frame: Frame, of_seeds: list[TrialRecord]
) -> None:
    undecided = Check(
        rule="randomised_weights", concerns="worst_case_accuracy", verdict="inconclusive", figure=0.1, message="odd"
    ).measurement()
    records = [replace(of_seeds[0], measurements=(*of_seeds[0].measurements, undecided)), *of_seeds[1:4]]
    card, without = (scorecard(official, "made", frame(official, each)) for each in (records, of_seeds[:4]))
    assert card.cells["standard", "robust"].warnings == without.cells["standard", "robust"].warnings
    (row,) = card.checks[card.checks["rule"] == "randomised_weights"].to_dict("records")
    assert (row["verdict"], row["raised"], row["count"]) == ("inconclusive", 0, 1)
    found, usual = (ChecksSection().build(cast(View, SimpleNamespace(card=each))) for each in (card, without))
    assert found is not None and usual is not None
    assert (found.tables["inconclusive"], usual.tables["inconclusive"]) == (1, 0)
    assert (found.tables["raised"], found.tables["passed"]) == (usual.tables["raised"], usual.tables["passed"])


def test_a_study_may_hold_both_kinds_of_cohorts(
    official: Study, trial: Trial, frame: Frame, of_seeds: list[TrialRecord]
) -> None:
    made = official.cohorts["made"]
    split = official.split.model_copy(update={"folds": 3})
    both = official.model_copy(update={"cohorts": {"made": made, "folds": made}, "split": split})
    about = {"asked": {"cohort": "folds", "official": False}}
    values_by_run = frame(both, [*of_seeds, *(trial("standard", fold, provenance=about) for fold in range(3))])
    assert scorecard(both, "made", values_by_run).design.run == "seed"
    folds = scorecard(both, "folds", values_by_run)
    assert (folds.design.run, folds.cells["standard", "accuracy"].summary.count) == ("fold", 3)


def test_before_any_trial_the_source_says_whether_it_brings_a_split(study: MakeStudy) -> None:
    nothing = pd.DataFrame({"official": np.array([], bool)})
    asked = study(split={"folds": 3, "repeats": 2})
    assert design_of(asked, "made", nothing).run == "fold"

    class Published(Source):
        name: Literal["published"] = "published"
        official_train: ClassVar[int | None] = 100

    cohort = asked.cohorts["made"].model_copy(update={"dataset": Published()})
    known = asked.model_copy(update={"cohorts": {"made": cohort}})
    assert design_of(known, "made", nothing) == Design(folds=1, repeats=2, official=True)
    ignored = known.model_copy(update={"split": known.split.model_copy(update={"official": "ignore"})})
    assert design_of(ignored, "made", nothing).run == "fold"


def test_columns_that_no_trial_was_asked_for_are_left_out(card: Scorecard, card_of_seeds: Scorecard) -> None:
    optional = {"f1", "corruption", "abstains", "conformal"}
    assert not optional & {column.key for column in card.evidence}
    assert optional < {column.key for column in card_of_seeds.evidence}
    assert len(card_of_seeds.evidence) == len(card.evidence) + len(optional)
    assert card_of_seeds.cells["standard", "conformal"].summary.mean == pytest.approx(0.91)
    assert card_of_seeds.cells["standard", "f1"].summary.mean == pytest.approx(0.815)


def test_columns_of_patches_smoothing_and_poison_stand_where_they_apply(
    card: Scorecard, card_of_arsenal: Scorecard
) -> None:
    keys = {"smoothed", "patch", "backdoor", "collision"}
    assert not keys & {column.key for column in card.evidence}
    assert keys < {column.key for column in card_of_arsenal.evidence}
    means = {key: cell.summary.mean for key, cell in card_of_arsenal.cells.items() if cell.summary is not None}
    # At one noise level and the middle one of its radii: never a mean over several.
    assert means["pgd_strong", "smoothed"] == pytest.approx(0.86 - 0.3 - 0.025)
    assert means["standard", "patch"] == pytest.approx(0.6)
    assert means["cleaned_5", "backdoor"] == pytest.approx(0.2)
    assert card_of_arsenal.cells["standard", "backdoor"].why == "no backdoor is planted"


def test_a_column_that_applies_to_no_recipe_is_left_out(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    absent = Measurement(name="backdoor_success", status="not_applicable", warnings=("no backdoor is planted",))
    broken = Measurement(name="collision_success", status="failed", warnings=("odd",))
    card = scorecard(study(), "made", frame(study(), [trial("standard", 0, measurements=(absent, broken))]))
    keys = {column.key for column in card.evidence}
    assert "backdoor" not in keys
    assert "collision" in keys


def test_a_certificate_of_the_smoothed_model_is_none_of_the_model(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    about = {"epsilon": 0.3, "norm": "l2"}
    worst = Measurement(name="worst_case_accuracy", value=0.5, conditions=about)
    smoothed = Measurement(
        name="certified_accuracy", value=0.4, conditions={**about, "method": "randomised smoothing", "sigma": 0.25}
    )
    card = scorecard(study(), "made", frame(study(), [trial("standard", 0, measurements=(worst, smoothed))]))
    assert card.reference_norm == "l2"
    assert card.cells["standard", "certified"].summary is None
    assert card.cells["standard", "smoothed"].summary.mean == pytest.approx(0.4)


def test_a_model_that_abstains_from_all_says_why(card_of_seeds: Scorecard) -> None:
    cell = card_of_seeds.cells["fed", "abstains"]
    assert (cell.summary, cell.why) == (None, "no threshold")
    assert card_of_seeds.cells["standard", "abstains"].summary.mean == pytest.approx(0.3)


def test_a_column_stands_at_the_setting_that_was_measured(
    official: Study, frame: Frame, of_seeds: list[TrialRecord]
) -> None:
    def stricter(found: Measurement) -> Measurement:
        about = {key: {"risk": 0.02, "alpha": 0.01}.get(key, value) for key, value in found.conditions.items()}
        return replace(found, conditions=about)

    records = [replace(made, measurements=tuple(map(stricter, made.measurements))) for made in of_seeds[:4]]
    titles = [column.title for column in scorecard(official, "made", frame(official, records)).evidence]
    assert "Abstains (risk ≤ 2 %)" in titles
    assert "Conformal coverage (≥ 99 %)" in titles


def test_rows_of_one_trial_never_pass_for_repetitions(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    found = tuple(Measurement(name="odd", value=float(k), conditions={"unheard_of": k}) for k in range(3))
    lines = everything(frame(study(), [trial("standard", 0, measurements=found)]), ALL, FOLDS)
    assert [(line.conditions, line.by_recipe["standard"].mean) for line in lines] == [
        ("unheard of 0", 0.0),
        ("unheard of 1", 1.0),
        ("unheard of 2", 2.0),
    ]


def test_how_many_records_stand_behind_a_figure_is_told(study: MakeStudy, whole: Store) -> None:
    asked = whole.frame()
    asked.loc[asked["name"] == "worst_case_accuracy", "n"] = 20
    asked.loc[asked["name"] == "accuracy", "n"] = 113
    name = next(iter(study().cohorts))
    card = scorecard(study(), name, asked)
    columns = {column.key: column for column in card.evidence}
    assert card.cells["standard", "robust"].records == 20
    assert records_text(card, "standard", columns["robust"]) == "20 of 113 records"
    assert records_text(card, "standard", columns["accuracy"]) == ""
    lines = everything(asked, card.recipes, card.design)
    assert {line.records for line in lines if line.name == "worst_case_accuracy"} == {"20"}
