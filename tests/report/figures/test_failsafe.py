"""Figures of shift and of failing safe hold what was measured, and are not drawn where nothing was."""

from typing import Any

import pandas as pd
import pytest

from assay.report.figures import failsafe, style
from assay.report.scorecard import Scorecard
from assay.store.folder import Store
from tests.report.views import view_of

ALL = ("standard", "private", "fed")
FIGURES = (failsafe.shift, failsafe.risk_coverage, failsafe.conformal, failsafe.out_of_distribution)


@pytest.fixture
def rows(seeds: Store) -> pd.DataFrame:
    return seeds.frame()


def lines(figure: Any, **where: Any) -> list[Any]:
    """The traces with a name, without the bands behind them."""
    found = [trace for trace in figure.data if trace.name is not None]
    return [trace for trace in found if all(getattr(trace, key) == value for key, value in where.items())]


@pytest.mark.parametrize("draw", FIGURES)
def test_what_was_not_measured_is_not_drawn(draw: Any, card: Scorecard, whole: Store) -> None:
    assert draw(view_of(card, whole.frame())) is None


@pytest.mark.parametrize("draw", FIGURES)
def test_a_recipe_has_its_colour_everywhere(draw: Any, card_of_seeds: Scorecard, rows: pd.DataFrame) -> None:
    colours = style.colours(ALL)
    for trace in lines(draw(view_of(card_of_seeds, rows))):
        colour = trace.line.color if trace.mode == "lines+markers" else trace.marker.color
        assert colour == colours[trace.name]


@pytest.mark.parametrize("draw", FIGURES)
def test_every_recipe_stands_once_in_the_legend(draw: Any, card_of_seeds: Scorecard, rows: pd.DataFrame) -> None:
    shown = [trace.name for trace in lines(draw(view_of(card_of_seeds, rows))) if trace.showlegend is not False]
    assert shown == list(ALL)


def test_shift_begins_with_the_clean_accuracy_and_has_a_plot_for_each_corruption(
    card_of_seeds: Scorecard, rows: pd.DataFrame
) -> None:
    figure = failsafe.shift(view_of(card_of_seeds, rows))
    assert [title.text for title in figure.layout.annotations] == ["blur", "jpeg", "noise", "contrast"]
    standard = lines(figure, name="standard")
    assert len(standard) == 4
    assert list(standard[0].x) == [0, 1, 2, 3]
    assert list(standard[0].y) == pytest.approx([0.915, 0.865, 0.815, 0.765])


def test_the_curve_of_risk_bears_the_promised_one(card_of_seeds: Scorecard, rows: pd.DataFrame) -> None:
    figure = failsafe.risk_coverage(view_of(card_of_seeds, rows))
    (private,) = lines(figure, name="private")
    assert list(private.x) == [0.25, 0.5, 1.0]
    assert list(private.y) == pytest.approx([0.185 / 4, 0.185 / 2, 0.185])
    assert [line.y0 for line in figure.layout.shapes] == [0.05]


def test_conformal_coverage_is_shown_less_the_nominal_one(card_of_seeds: Scorecard, rows: pd.DataFrame) -> None:
    figure = failsafe.conformal(view_of(card_of_seeds, rows))
    assert list(figure.layout.xaxis.ticktext) == ["APS, 95%", "LAC, 95%", "APS, 90%", "LAC, 90%"]
    coverage, size = lines(figure, name="standard")
    assert list(coverage.y) == pytest.approx([0.01] * 4)
    assert list(size.y) == pytest.approx([1.5] * 4)
    # Equal over seeds: the whiskers are the interval over records, and end where every record is covered.
    assert list(coverage.error_y.arrayminus) == pytest.approx([0.05] * 4)
    assert list(coverage.error_y.array) == pytest.approx([0.04, 0.04, 0.05, 0.05])


def test_every_kind_of_strange_record_is_a_line(card_of_seeds: Scorecard, rows: pd.DataFrame) -> None:
    figure = failsafe.out_of_distribution(view_of(card_of_seeds, rows))
    assert [trace.name for trace in figure.data] == [recipe for recipe in ALL for _ in ("max softmax", "energy")]
    assert "● max softmax, ◇ energy" in figure.layout.xaxis.title.text
    assert all(list(trace.y) == ["noise, severity 5", "shuffled pixels"] for trace in figure.data)
    assert all(list(trace.x) == pytest.approx([0.8, 0.8]) for trace in figure.data)
