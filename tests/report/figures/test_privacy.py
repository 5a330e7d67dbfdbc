"""What is not private stands at infinity; what leaks stands below, on the same scale of ε."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from assay.report.designs import budgets
from assay.report.figures.privacy import privacy
from assay.report.scorecard import Scorecard, scorecard
from assay.report.tables.privacy import Costs
from assay.results import Measurement, TrialRecord
from assay.statistics import Summary
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")


def test_privacy_shows_every_recipe_and_what_is_not_private_at_infinity(
    card: Scorecard, study: MakeStudy, whole: Store
) -> None:
    figure = privacy(view_of(card, whole.frame(), study()))
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name) == list(ALL)
    assert (by_name["private"].x[0], by_name["private"].marker.symbol) == (pytest.approx(7.9), "circle")
    assert by_name["standard"].x == by_name["fed"].x
    assert by_name["standard"].marker.symbol == "circle-open"
    assert figure.layout.xaxis.ticktext[-1] == "∞"
    assert figure.layout.xaxis.tickvals[-1] == by_name["standard"].x[0] > 7.9
    assert by_name["private"].y[0] == pytest.approx(0.81)


@pytest.mark.parametrize("bases", [(0.98, 0.7, 0.9), (0.0, 0.3, 0.1)])
def test_error_bars_of_privacy_stay_within_what_is_possible(
    study: MakeStudy, frame: Frame, trial: Trial, bases: tuple[float, ...]
) -> None:
    records = [trial("standard", i, base=base, only={"accuracy"}) for i, base in enumerate(bases)]
    table = frame(study(), records)
    (trace,) = privacy(view_of(scorecard(study(), "made", table), table, study())).data
    assert trace.y[0] + trace.error_y.array[0] <= 1
    assert trace.y[0] - trace.error_y.arrayminus[0] >= 0


def test_what_did_not_apply_is_not_drawn(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    failed = Measurement(name="accuracy", status="failed", warnings=("odd",))
    table = frame(study(), [trial("standard", 0, measurements=(failed,))])
    assert len(privacy(view_of(scorecard(study(), "made", table), table, study())).data) == 0


CURVE: dict[str, Any] = {
    "standard": {"training": {"epochs": 9}},
    "eps_8": {"privacy": {"epsilon": 8}},
    "eps_1": {"privacy": {"epsilon": 1}, "training": {"learning_rate": 0.1}},
    "robust": {"privacy": {"epsilon": 1}, "objective": {"name": "pgd", "epsilon": 0.1}},
}
SPENT = {"eps_8": 8.0, "eps_1": 0.5, "robust": 0.5}


def told(recipe: str, fold: int) -> tuple[Measurement, ...]:
    """What leaks was asked of the first fold, and at the lowest rate too few records could tell."""
    found = [Measurement(name="accuracy", value=0.8 + fold / 100, n=20, low=0.7, high=0.9)]
    if recipe in SPENT:
        found.append(Measurement(name="epsilon", value=SPENT[recipe], unit="epsilon"))
    if fold == 0 and recipe != "robust":
        for rate in (0.1, 0.01):
            about = {"false_positive_rate": rate, "mode": "online"}
            if rate == 0.01:
                found.append(Measurement(name="lira_tpr", status="not_applicable", conditions=about, warnings=("few",)))
            else:
                value = 0.15 if recipe in SPENT else 0.4
                found.append(Measurement(name="lira_tpr", value=value, low=0.05, high=0.5, n=20, conditions=about))
    if fold == 0 and recipe in SPENT:
        found.append(Measurement(name="epsilon_audited", value=SPENT[recipe] / 2, unit="epsilon"))
    return tuple(found)


@pytest.fixture
def leaking(study: MakeStudy, frame: Frame, trial: Trial) -> go.Figure:
    asked = study(CURVE)
    table = frame(asked, [trial(r, fold, measurements=told(r, fold)) for r in CURVE for fold in range(3)])
    accuracy = Summary(mean=0.93, deviation=0.01, low=0.9, high=0.95, count=3)
    best = Costs(plain="cnn, elsewhere", elsewhere=True, accuracy=accuracy, costs=())
    return privacy(view_of(scorecard(asked, "made", table), table, asked, costs=best))


def test_recipes_that_differ_by_their_budget_are_joined_from_the_least_to_infinity(
    study: MakeStudy, leaking: go.Figure
) -> None:
    assert list(budgets(study(CURVE).cohorts["made"].recipes)) == [("eps_1", "eps_8", "standard")]
    (band, line) = (trace for trace in leaking.data if trace.name == "budgets" or trace.legendgroup == "budgets")
    edge = leaking.layout.xaxis.tickvals[-1]
    assert list(line.x) == [0.5, 8.0, edge]
    assert line.y[0] == pytest.approx(0.81)
    assert len(band.x) == 6 and max(band.y) > 0.81 > min(band.y)


def test_what_lira_recognises_and_what_an_audit_proves_stand_below_on_the_same_scale(leaking: go.Figure) -> None:
    rows = {axis: [t for t in leaking.data if t.yaxis == axis and t.mode == "markers"] for axis in ("y", "y2", "y3")}
    assert [trace.name for trace in rows["y"]] == list(CURVE)
    assert {t.name: (t.x[0], t.y[0]) for t in rows["y2"]} == {
        "standard": (leaking.layout.xaxis.tickvals[-1], 0.4),
        "eps_8": (8.0, 0.15),
        "eps_1": (0.5, 0.15),
    }
    assert leaking.layout.yaxis2.title.text == "LiRA online<br>TPR at 10 % FPR"
    assert {t.name: (t.x[0], t.y[0]) for t in rows["y3"]} == {name: (e, e / 2) for name, e in SPENT.items()}
    (claim,) = (trace for trace in leaking.data if trace.name == "ε claimed")
    assert list(claim.x) == list(claim.y) == [0.5, 0.5, 8.0]
    assert leaking.layout.xaxis.range == leaking.layout.xaxis3.range
    assert leaking.layout.xaxis3.title.text.startswith("ε claimed")


def test_each_mode_of_lira_stands_in_a_plot_of_its_own(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    asked = study(CURVE)
    found = [Measurement(name="accuracy", value=0.8, n=20)]
    for mode, value in (("offline", 0.2), ("online", 0.6)):
        about = {"mode": mode, "attack": f"LiRA {mode}", "false_positive_rate": 0.1}
        found.append(Measurement(name="lira_tpr", value=value, n=20, conditions=about))
    table = frame(asked, [trial("standard", 0, measurements=tuple(found))])
    figure = privacy(view_of(scorecard(asked, "made", table), table, asked))
    assert [t.y[0] for t in figure.data if t.mode == "markers"] == [0.8, 0.6, 0.2]
    titles = [figure.layout[f"yaxis{number}"].title.text for number in (2, 3)]
    assert titles == ["LiRA online<br>TPR at 10 % FPR", "LiRA offline<br>TPR at 10 % FPR"]


def test_the_best_plain_training_of_another_model_is_a_line(leaking: go.Figure) -> None:
    words = [note.text for note in leaking.layout.annotations]
    assert "cnn, elsewhere: 93.0%" in words
    heights = [shape.y0 for shape in leaking.layout.shapes]
    assert heights == [0.93, 0.1]  # and the chance of LiRA


def test_several_audits_of_one_budget_show_the_one_that_proves_most(
    study: MakeStudy, frame: Frame, trial: Trial
) -> None:
    asked = study(CURVE)
    bounds = [0.2, 0.7, 0.5]
    records = [
        trial("eps_1", i, measurements=(*told("eps_1", 1), Measurement(name="epsilon_audited", value=bound)))
        for i, bound in enumerate(bounds)
    ]
    table = frame(asked, records)
    figure = privacy(view_of(scorecard(asked, "made", table), table, asked))
    assert [t.y[0] for t in figure.data if t.yaxis == "y2" and t.mode == "markers"] == [0.7]
