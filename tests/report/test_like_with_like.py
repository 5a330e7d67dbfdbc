"""A figure that rests on fewer folds, or on fewer records, than the one beside it says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from assay.data.splits import Split
from assay.design import Design
from assay.report.card import card_of
from assay.report.claims import Claim, judge_claim
from assay.report.figures import certificates, failsafe, robustness
from assay.report.lines import everything
from assay.report.page import render
from assay.report.rows import runs_of, shared
from assay.report.scorecard import scorecard
from assay.report.sweep_table import rests_on, results
from assay.report.tables.attacks import attacks
from assay.report.tables.classes import classes
from assay.report.words import notes
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.finished import Finished
from assay.study.run import write_study
from assay.study.spec import Study
from assay.study.sweep import Sweep
from assay.study.sweep_goals import ACCURACY, ROBUST
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Trial = Callable[..., TrialRecord]
Fill = Callable[..., Store]

AT = {"epsilon": 0.3, "norm": "linf"}
FOLDS = 5


def share(name: str, value: float, n: int = 100, **conditions: Any) -> Measurement:
    reach = 0.02
    return Measurement(
        name=name, value=value, n=n, low=max(value - reach, 0), high=min(value + reach, 1), conditions=conditions
    )


def absent(name: str, status: str, **conditions: Any) -> Measurement:
    return Measurement(name=name, status=status, conditions=conditions, warnings=("odd",))  # type: ignore[arg-type]


def of_fold(fold: int) -> list[Measurement]:
    """Accuracy falls with the fold; in the last two a longer attack answered a suspicion, and nothing abstains."""
    accuracy = 0.9 - fold / 10
    found = [
        share("accuracy", accuracy),
        share("worst_case_accuracy", accuracy + 0.05, n=20, **AT),
        share("worst_case_accuracy", accuracy + 0.08, n=20, epsilon=0.0, norm="linf"),
        share("robust_accuracy", accuracy + 0.06, n=20, attack="pgd_margin", **AT),
        share("sample_accuracy", accuracy + 0.08, n=20, evaluation="robustness"),
        share("sample_accuracy", accuracy + 0.01, n=50, evaluation="certificates"),
        share("certified_accuracy", accuracy - 0.3, n=50, method="interval bounds", **AT),
        absent("abstention_rate", ("failed", "abstained", "not_applicable")[fold % 3], risk=0.05),
    ]
    if fold == 0:
        found[-1] = share("abstention_rate", 0.009, risk=0.05)
    if fold >= 3:
        found.append(share("robust_accuracy", accuracy + 0.05, n=20, attack="pgd_long", **AT))
    return found


@pytest.fixture(scope="module")
def asked(study: MakeStudy) -> Study:
    return study({"standard": {}}, split={"folds": FOLDS})


@pytest.fixture(scope="module")
def store(asked: Study, trial: Trial, fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> Store:
    records = [trial("standard", fold, measurements=tuple(of_fold(fold))) for fold in range(FOLDS)]
    return fill(asked, tmp_path_factory.mktemp("folds"), records, records)


@pytest.fixture(scope="module")
def frame(store: Store) -> pd.DataFrame:
    return store.frame()


def said(asked: Study, frame: pd.DataFrame, key: str) -> list[str]:
    card = scorecard(asked, "made", frame)
    column = next(column for column in card.evidence if column.key == key)
    return notes(card, "standard", column, card.design)


def test_a_figure_of_one_fold_of_five_says_so(asked: Study, frame: pd.DataFrame) -> None:
    cell = scorecard(asked, "made", frame).cells["standard", "abstains"]
    assert cell.summary is not None
    assert (cell.summary.mean, cell.summary.count, cell.summary.of) == (0.009, 1, 5)
    assert said(asked, frame, "abstains") == ["1 of 5 folds"]
    assert said(asked, frame, "accuracy") == []


@pytest.mark.parametrize("status", ["failed", "abstained", "not_applicable"])
def test_no_status_is_dropped_without_a_word(
    status: str, asked: Study, trial: Trial, fill: Fill, tmp_path: Path
) -> None:
    rows = [share("accuracy", 0.9), share("accuracy", 0.8), absent("accuracy", status)]
    records = [trial("standard", fold, measurements=(row,)) for fold, row in enumerate(rows)]
    records += [trial("standard", 3, error="ValueError: odd")]  # and the fifth is still to come
    assert said(asked, fill(asked, tmp_path, records).frame(), "accuracy") == ["2 of 5 folds"]


def test_what_was_attacked_stands_beside_the_accuracy_of_the_same_records(asked: Study, frame: pd.DataFrame) -> None:
    # All test records: 70 %. The worst case of 20 of them, 75 %, is no wonder: 78 % of these are right.
    assert said(asked, frame, "accuracy") == []
    assert said(asked, frame, "robust") == ["20 of 100 records", "accuracy on the same: 78.0%"]
    assert said(asked, frame, "certified") == ["50 of 100 records", "accuracy on the same: 71.0%"]


def test_sensitivity_under_attack_stands_beside_its_own_value_without(
    asked: Study, trial: Trial, fill: Fill, tmp_path: Path
) -> None:
    found = (
        share("accuracy", 0.9),
        share("sensitivity", 0.95, n=7, threshold=0.1),
        share("worst_case_sensitivity", 0.6, n=7, epsilon=0.0, norm="linf"),
        share("worst_case_sensitivity", 0.2, n=7, **AT),
    )
    found += tuple(
        share("worst_case_recall", value, n=n, epsilon=epsilon, norm="linf", **{"class": name})
        for name, n, epsilon, value in (
            ("ill", 7, 0.0, 0.6),
            ("ill", 7, 0.3, 0.2),
            ("well", 93, 0.0, 1),
            ("well", 93, 0.3, 0.9),
        )
    )
    rows = fill(asked, tmp_path, [trial("standard", 0, measurements=found)]).frame()
    table = classes(scorecard(asked, "made", rows), rows)
    assert table is not None
    cells = {column.title: table.cells["standard", column.key] for column in table.evidence}
    shown = {
        name: (cell.summary.mean, cell.at_zero.mean) for name, cell in cells.items() if cell.summary and cell.at_zero
    }
    assert shown == {"ill": (0.2, 0.6), "well": (0.9, 1.0)}
    assert said(asked, rows, "robust_sensitivity") == ["1 of 5 folds", "n = 7, at ε = 0: 60.0%"]


def test_an_attack_that_ran_in_some_folds_stands_beside_the_worst_case_of_these(
    asked: Study, frame: pd.DataFrame
) -> None:
    card = scorecard(asked, "made", frame)
    table = attacks(card, frame)
    assert table is not None
    columns = {column.key: column for column in table.evidence}
    worst, long = (table.cells["standard", key].summary for key in ("worst", "pgd_long"))
    assert worst is not None and long is not None
    assert (worst.mean, long.mean) == pytest.approx((0.75, 0.60))
    assert notes(table, "standard", columns["pgd_long"], card.design) == [
        "2 of 5 folds",
        "20 of 100 records",
        "accuracy on the same: 63.0%",
        "worst case on the same: 60.0%",
    ]
    assert "worst case on the same" not in str(notes(table, "standard", columns["pgd_margin"], card.design))


def test_the_table_of_everything_knows_the_folds(asked: Study, frame: pd.DataFrame) -> None:
    lines = everything(frame, ("standard",), scorecard(asked, "made", frame).design)
    counted = {(line.name, line.conditions): line.by_recipe["standard"] for line in lines}
    assert counted["robust_accuracy", "attack pgd_long, epsilon 0.3"].partial
    assert not counted["accuracy", ""].partial


def test_curves_say_so_where_they_are_pointed_at(asked: Study, frame: pd.DataFrame) -> None:
    fewer = frame[~((frame["name"] == "worst_case_accuracy") & (frame["fold"] == 4))]
    figure = robustness.worst_case_figure(view_of(scorecard(asked, "made", fewer), fewer))
    assert [trace.text for trace in figure.data if trace.text] == [("<br>4 of 5 runs",) * 2]


def test_certified_accuracy_begins_at_the_accuracy_of_the_records_that_were_certified(
    asked: Study, frame: pd.DataFrame
) -> None:
    figure = certificates.interval_bounds(view_of(scorecard(asked, "made", frame), frame))
    assert figure is not None
    lines = {trace.name: trace for trace in figure.data if trace.name}
    certified = lines["standard, certified by interval bounds (n = 50)"]
    assert list(certified.y) == pytest.approx([0.71, 0.4])
    assert "standard, worst case over all attacks (n = 20)" in lines


def test_shift_begins_at_the_accuracy_of_the_records_that_were_changed(
    asked: Study, trial: Trial, fill: Fill, tmp_path: Path
) -> None:
    found = (
        share("accuracy", 0.7),
        share("sample_accuracy", 0.9, n=30, evaluation="shift"),
        share("shifted_accuracy", 0.8, n=30, corruption="noise", severity=1),
    )
    rows = fill(asked, tmp_path, [trial("standard", 0, measurements=found)]).frame()
    figure = failsafe.shift(view_of(scorecard(asked, "made", rows), rows))
    assert figure is not None
    assert list(figure.data[1].y) == [0.9, 0.8]


def test_the_page_and_the_card_say_it_too(asked: Study, store: Store, frame: pd.DataFrame) -> None:
    page = render(asked, {"made": asked.cohorts["made"].dataset.load()}, store)
    for words in ("1 of 5 folds", "20 of 100 records", "worst case on the same: 60.0%", "2 of 5 folds"):
        assert f'<span class="range">{words}</span>' in page
    nobody = np.arange(0)
    served = Finished(
        trial=b"standard-0".hex(),
        study=asked,
        cohort="made",
        recipe_name="standard",
        fold=0,
        repeat=0,
        recipe=asked.cohorts["made"].recipes["standard"],
        model=nn.Identity(),
        dataset=asked.cohorts["made"].dataset.load(),
        split=Split(train=np.arange(40), validation=nobody, calibration=nobody, test=np.arange(40, 60)),
        frame=frame,
    )
    card = card_of(served, "served")
    figures = {figure.title: figure for figure in card.evidence}
    assert figures["Abstains (risk ≤ 5 %)"].recipe_runs == "1 of 5 folds"
    assert figures["Worst case, ε = 0.3"].sample == "20 of 100 records, accuracy on the same: 98.0%"
    assert "1 of 5 folds" in card.to_html()


def test_an_interval_of_a_share_stays_within_it_everywhere(asked: Study, frame: pd.DataFrame) -> None:
    card = scorecard(asked, "made", frame)
    summary = card.cells["standard", "robust"].summary
    assert summary is not None
    assert summary.high == 1.0  # by t it would be 1.11
    lines = everything(frame, ("standard",), card.design)
    assert {line.by_recipe["standard"].high for line in lines if line.name == "worst_case_accuracy"} == {1.0}
    # A correlation may be negative, and a time beyond 1.
    gain = Design(folds=2, repeats=1, test_share=1.0).summarise(
        runs_of(rows_of("explanation_agreement", "Spearman correlation", [-0.5, 0.9])).runs
    )
    assert (gain.low, gain.high) == (-1.0, 1.0)
    times = Design(folds=2, repeats=1, test_share=1.0).summarise(
        runs_of(rows_of("training_seconds", "seconds", [1.0, 9.0])).runs
    )
    assert (times.low, times.high > 9) == (0.0, True)


def rows_of(name: str, unit: str, values: list[float], n: int = 10) -> pd.DataFrame:
    every = {"name": name, "unit": unit, "status": "measured", "low": values, "high": values, "n": n, "repeat": 0}
    return pd.DataFrame({"value": values, "fold": range(len(values)), **every})


def test_only_the_same_records_are_compared() -> None:
    few, many = runs_of(rows_of("accuracy", "fraction", [0.5] * 3)), rows_of("accuracy", "fraction", [0.4] * 3)
    many["n"] = [10, 99, 10]
    assert shared([few, runs_of(many)]) == [(0, 0), (0, 1), (0, 2)]
    assert shared([few, runs_of(many)], same_records=True) == [(0, 0), (0, 2)]


def test_a_claim_is_not_judged_by_figures_of_different_records(asked: Study, frame: pd.DataFrame) -> None:
    proven = {"recipe": "standard", "name": "certified_accuracy", "where": {"epsilon": "reference"}}
    attacked = {"recipe": "standard", "name": "worst_case_accuracy", "where": {"epsilon": "reference"}}
    claim = Claim.model_validate(
        {"id": "gap", "says": "so", "quantity": "difference", "terms": [attacked, proven], "claimed": [0.0, 0.1]}
    )
    design = scorecard(asked, "made", frame).design
    judged = judge_claim(claim, frame, reference_epsilon=0.3, design=design)
    assert (judged.verdict, judged.measured) == ("not tested here", None)
    assert "different records (20 and 50 in a fold)" in judged.why
    same = frame.assign(n=frame["n"].where(frame["name"] == "accuracy", 20))
    assert judge_claim(claim, same, reference_epsilon=0.3, design=design).measured is not None


def test_a_question_that_was_asked_twice_is_answered_by_the_larger_sample(
    asked: Study, trial: Trial, fill: Fill, tmp_path: Path
) -> None:
    found = (share("accuracy", 0.7), share("worst_case_accuracy", 0.9, n=20, **AT))
    whole = share("worst_case_accuracy", 0.5, **AT)
    rows = fill(asked, tmp_path, [trial("standard", 0, measurements=(*found, whole))]).frame()
    cell = scorecard(asked, "made", rows).cells["standard", "robust"]
    assert cell.summary is not None
    assert (cell.summary.mean, cell.records) == (0.5, 100)


def test_points_of_a_sweep_say_on_how_many_trials_and_records_they_rest(study: MakeStudy, tmp_path: Path) -> None:
    base, store = study({"standard": {}}, split={"folds": 2}), Store(str(tmp_path))
    sweep = Sweep(space="length", study=base, keys=("training.epochs",))
    recipe = sweep.recipe_at({"training.epochs": 1}).model_dump(mode="json")
    for fold in range(2):
        found = [share("accuracy", 0.9), share("worst_case_accuracy", 0.95, n=20, **AT)]
        store.write(
            TrialRecord(
                trial=f"t{fold}",
                dataset="made",
                model="mlp",
                recipe="epochs-1",
                fold=fold,
                repeat=0,
                seconds=1.0,
                measurements=tuple(found[: 2 - fold]),
                provenance={"asked": {"recipe_name": "epochs-1", "recipe": recipe}},
            )
        )
    write_study(base, store, {}, {"git_commit": ""})
    (row,) = results(sweep, store, 0.3).to_dict("records")
    assert rests_on(row, ACCURACY) == ""
    assert rests_on(row, ROBUST) == "1 of 2 trials, 20 of 100 records"
