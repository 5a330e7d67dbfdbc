"""A curve a recipe, in its colour, within what is possible."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from assay import statistics
from assay.report.figures.robustness import worst_case_figure
from assay.report.scorecard import Scorecard, scorecard
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def named(figure: go.Figure) -> list[Any]:
    """The traces that a legend shows."""
    return [trace for trace in figure.data if trace.showlegend is not False]


def test_every_recipe_has_a_curve_with_its_band(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = worst_case_figure(view_of(card, rows))
    lines = named(figure)
    assert [line.name for line in lines] == list(ALL)
    assert len(figure.data) == 2 * len(ALL)
    assert list(lines[0].x) == [0.0, 0.1, 0.3, 0.5]
    assert list(lines[0].y) == pytest.approx([0.91, 0.76, 0.46, 0.16])
    band = figure.data[0]
    expected = statistics.summarise([0.45, 0.46, 0.47], test_share=card.design.test_share)
    assert (band.y[2], band.y[-3]) == pytest.approx((expected.high, expected.low))
    assert "units" in figure.layout.xaxis.title.text


def test_bands_stay_within_what_is_possible(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = (0.0, 0.5, 0.98)
    records = [trial("standard", i, base=base, only={"worst_case_accuracy"}) for i, base in enumerate(bases)]
    table = frame(study(), records)
    figure = worst_case_figure(view_of(scorecard(study(), "made", table), table))
    values = np.concatenate([trace.y for trace in figure.data])
    assert values.min() == 0
    assert values.max() == 1


def test_the_reference_radius_is_drawn(card: Scorecard, rows: pd.DataFrame) -> None:
    (line,) = worst_case_figure(view_of(card, rows)).layout.shapes
    assert (line.x0, line.x1, line.line.dash) == (0.3, 0.3, "dot")


def test_more_recipes_than_colours_are_told_apart_by_dashes(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    recipes = {f"recipe_{i}": {} for i in range(10)}
    asked = study(recipes)
    table = frame(asked, [trial(name, 0, only={"worst_case_accuracy"}) for name in recipes])
    figure = worst_case_figure(view_of(scorecard(asked, "made", table), table))
    looks = [(line.line.color, line.line.dash) for line in named(figure)]
    assert len(set(looks)) == 10


def test_radii_of_two_norms_never_share_an_axis(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    first = trial("standard", 0, only={"worst_case_accuracy"})
    euclidean = [
        replace(m, value=m.value / 2, low=m.low / 2, conditions={**m.conditions, "norm": "l2"})
        for m in first.measurements
    ]
    supremum = [replace(m, conditions={**m.conditions, "norm": "linf"}) for m in first.measurements]
    table = frame(study(), [replace(first, measurements=(*euclidean, *supremum))])
    card = scorecard(study(), "made", table)
    figure = worst_case_figure(view_of(card, table))
    lines = [trace for trace in figure.data if trace.name is not None]
    assert [list(line.y) for line in lines] == [
        pytest.approx([0.45, 0.375, 0.225, 0.075]),
        pytest.approx([0.9, 0.75, 0.45, 0.15]),
    ]
    assert [len(named(figure)), lines[0].xaxis, lines[1].xaxis] == [1, "x", "x2"]
    assert "L2" in figure.layout.xaxis.title.text
    # The scorecard speaks of one of them, and so does its dotted line.
    assert [line.xref for line in figure.layout.shapes] == ["x2"]
    assert card.cells["standard", "robust"].summary.mean == pytest.approx(0.45)
