"""Every figure looks alike, stands alone and runs no word of others."""

import re
from collections.abc import Callable

import pandas as pd
import pytest

from assay.report.figures import style
from assay.report.figures.comparison import accuracy_differences, cost
from assay.report.figures.explanations import faithfulness
from assay.report.figures.federation import clients
from assay.report.figures.privacy import privacy
from assay.report.figures.robustness import worst_case_figure
from assay.report.scorecard import Scorecard, scorecard
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def test_a_recipe_has_one_colour_everywhere(card: Scorecard, study: MakeStudy, rows: pd.DataFrame) -> None:
    colours = style.colours(card.recipes)
    assert len(set(colours.values())) == 3
    for line in [trace for trace in worst_case_figure(view_of(card, rows)).data if trace.name]:
        assert line.line.color == colours[line.name]
    for point in privacy(view_of(card, rows, study())).data:
        assert point.marker.color == colours[point.name]
    for bar in cost(view_of(card, rows)).data:
        assert bar.marker.color == colours[bar.y[0]]


def test_figures_of_nothing_are_empty_and_no_error(study: MakeStudy, frame: Frame) -> None:
    table = frame(study(), [])
    card = scorecard(study(), "made", table)
    assert len(worst_case_figure(view_of(card, table)).data) == 0
    assert len(privacy(view_of(card, table, study())).data) == len(cost(view_of(card, table)).data) == 0
    assert len(accuracy_differences(view_of(card, table)).data) == 0
    assert clients(view_of(card, table)) is None
    assert faithfulness(view_of(card, table)) is None


def test_a_fragment_carries_its_data_and_no_library(card: Scorecard, study: MakeStudy, rows: pd.DataFrame) -> None:
    fragment = style.html(privacy(view_of(card, rows, study())), described="privacy")
    assert 'role="img" aria-label="privacy"' in fragment
    assert len(fragment) < 50_000
    assert "src=" not in fragment


def test_a_unit_cannot_end_the_script_that_holds_it(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = worst_case_figure(view_of(card, rows, units="</script><img src=x onerror=alert(1)>"))
    fragment = style.html(figure, described="robustness")
    assert "<img" not in fragment
    assert fragment.count("</script>") == fragment.count("<script")


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_small_plots_are_named_below_the_last_of_each_column(count: int) -> None:
    drawn = style.panels([f"plot {i}" for i in range(count)], columns=3, x="severity")
    places = [drawn.at(i) for i in range(count)]
    assert len({(p["row"], p["col"]) for p in places}) == count
    titles = {(p["row"], p["col"]): drawn.figure.get_subplot(**p).xaxis.title.text for p in places}
    for column in range(1, min(3, count) + 1):
        own = {row: title for (row, at), title in titles.items() if at == column}
        assert [row for row, title in own.items() if title] == [max(own)]


def test_a_name_too_long_for_its_plot_stands_once() -> None:
    drawn = style.panels([f"plot {i}" for i in range(9)], columns=4, x="ε in L∞ (range of a pixel, black to white)")
    places = [drawn.at(i) for i in range(9)]
    named = [p for p in places if drawn.figure.get_subplot(**p).xaxis.title.text]
    assert named == [drawn.at(8)]


def test_no_two_recipes_share_a_colour() -> None:
    names = [f"recipe {i}" for i in range(120)]
    found = [look.colour for look in style.looks(names).values()]
    assert len(set(found)) == len(names)
    assert found[:8] == list(style.PALETTE)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in found)
