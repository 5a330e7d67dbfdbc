"""Every attack has its plot on logarithmic axes, which show a rate of 0 too, and the curator finds the most exposed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from assay.report.figures.membership import roc
from assay.report.figures.style import colours
from assay.report.page import publish_report
from assay.report.scorecard import Scorecard, scorecard
from assay.report.tables.membership import exposed
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.spec import Study
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")
RATES = (0.5, 0.1, 0.01)


def attacked(recipe: str, fold: int) -> Iterator[Measurement]:
    """What both attacks would have found: the private recipe leaks nothing at the lowest rate."""
    about: dict[str, Any]
    for name, attack, gain in (("lira_tpr", "LiRA online", 2.0), ("membership_tpr", "loss threshold", 1.2)):
        for rate in RATES:
            value = 0.0 if recipe == "private" and rate < 0.1 else min(1.0, gain * rate + fold / 1000)
            about = {"false_positive_rate": rate, "attack": attack}
            if name == "lira_tpr":
                about["mode"] = "online"
            yield Measurement(name=name, value=value, low=value / 2, high=min(1.0, 2 * value), n=100, conditions=about)
        unsupported = {"false_positive_rate": 0.001, "attack": attack}
        why = ("too few non-members",)
        yield Measurement(name=name, status="not_applicable", conditions=unsupported, warnings=why)
    positions = [7, 3 + fold, *range(20, 28)]
    yield Measurement(
        name="lira_exposed",
        value=9.0 + fold,
        unit="log-likelihood ratio",
        n=100,
        conditions={
            "attack": "LiRA online",
            "records": positions,
            "scores": [9.0 + fold, 5.0, *np.linspace(4, 1, 8).tolist()],
        },
    )


@pytest.fixture(scope="module")
def leaking(
    study: MakeStudy, trial: Trial, fill: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory
) -> Store:
    records = [
        replace(made, measurements=(*(m for m in made.measurements if m.name == "accuracy"), *attacked(recipe, fold)))
        for recipe in ALL
        for fold in range(3)
        for made in [trial(recipe, fold)]
    ]
    return fill(study(), tmp_path_factory.mktemp("leaking"), records)


@pytest.fixture(scope="module")
def rows(leaking: Store) -> pd.DataFrame:
    return leaking.frame()


@pytest.fixture(scope="module")
def leaks(study: MakeStudy, rows: pd.DataFrame) -> Scorecard:
    return scorecard(study(), "made", rows)


@pytest.fixture(scope="module")
def figure(leaks: Scorecard, rows: pd.DataFrame) -> go.Figure:
    drawn = roc(view_of(leaks, rows))
    assert drawn is not None
    return drawn


def lines(figure: go.Figure, name: str) -> list[Any]:
    """The traces of that name: one a plot."""
    return [trace for trace in figure.data if trace.name == name]


def test_without_shadow_models_there_is_no_plot(card: Scorecard, whole: Store) -> None:
    assert roc(view_of(card, whole.frame())) is None
    assert exposed(card, whole.frame()) == []


def test_every_attack_has_a_plot_and_every_recipe_its_line(figure: go.Figure) -> None:
    assert [title.text for title in figure.layout.annotations] == ["LiRA online", "loss threshold"]
    for recipe in ALL:
        shadows, alone = lines(figure, recipe)
        assert (shadows.xaxis, alone.xaxis) == ("x", "x2")
        assert list(shadows.x) == list(alone.x) == [0.01, 0.1, 0.5, 1.0]
        assert {shadows.line.color, alone.line.color} == {colours(ALL)[recipe]}
        assert (shadows.showlegend, alone.showlegend) == (True, False)
    shadows, alone = lines(figure, "standard")
    assert list(shadows.y) == pytest.approx([0.021, 0.201, 1.0, 1.0])
    assert list(alone.y) == pytest.approx([0.013, 0.121, 0.601, 1.0])


def test_both_axes_are_logarithmic_and_chance_is_their_diagonal(figure: go.Figure) -> None:
    layout = figure.layout
    for axis in (layout.xaxis, layout.xaxis2, layout.yaxis, layout.yaxis2):
        assert axis.type == "log"
        assert axis.range[0] == pytest.approx(-2)
        assert list(axis.ticktext) == ["1%", "10%", "100%"]
    for chance in lines(figure, "tells nothing"):
        assert list(chance.x) == list(chance.y) == [0.01, 1.0]


def test_a_rate_of_nothing_is_drawn_on_the_axis_and_told_as_nothing(figure: go.Figure) -> None:
    shadows, _ = lines(figure, "private")
    assert shadows.y[0] == 0.01
    assert list(shadows.customdata) == pytest.approx([0.0, 0.201, 1.0, 1.0])
    assert all(min(trace.y) > 0 for trace in figure.data)


def test_the_most_exposed_stand_once_with_their_greatest_score(leaks: Scorecard, rows: pd.DataFrame) -> None:
    found = exposed(leaks, rows)
    assert [(one.recipe, one.attack, one.runs) for one in found] == [(recipe, "LiRA online", 3) for recipe in ALL]
    records = found[0].records
    assert [(r.position, r.score, r.runs) for r in records[:5]] == [
        *((7, 11.0, 3), (3, 5.0, 1), (4, 5.0, 1), (5, 5.0, 1)),
        (20, 4.0, 3),
    ]
    assert len(records) == 10


def test_the_scorecard_shows_the_attack_with_shadow_models_beside_the_one_without(
    leaks: Scorecard, card: Scorecard
) -> None:
    assert leaks.cells["standard", "lira"].summary.mean == pytest.approx(0.201)
    assert leaks.cells["standard", "membership"].summary.mean == pytest.approx(0.121)
    assert "lira" not in {column.key for column in card.evidence}


def test_the_page_shows_both_and_says_with_whom_positions_stay(study: MakeStudy, leaking: Store) -> None:
    publish_report(study(), load_datasets(study()), leaking)
    page = leaking.read_text("report.html")
    assert 'aria-label="membership"' in page
    assert "7 (11.0, 3 of 3); 3 (5.0, 1 of 3)" in page
    assert "this table and the data stay with their curator" in page


def test_a_page_without_shadow_models_says_nothing_of_them(
    study: MakeStudy, trial: Trial, fill: Callable[..., Store], tmp_path: Path
) -> None:
    store = fill(study({"standard": {}}), tmp_path, [trial("standard", 0)])
    publish_report(study({"standard": {}}), load_datasets(study()), store)
    page = store.read_text("report.html")
    assert "LiRA" not in page
    assert "most exposed" not in page
