"""Maps are drawn by their place between controls and the oracle, by their controls and by replacements."""

import numpy as np
import pandas as pd
import pytest

from assay.report.figures.explanations import areas, faithfulness, replacements
from assay.report.rows import select
from assay.report.scorecard import Scorecard
from assay.report.tables.explanations import measure_table
from assay.store.folder import Store
from tests.report.conftest import MAPS
from tests.report.views import view_of

ALL = ("standard", "private", "fed")
TITLES = ["Integrated gradients", "Deep SHAP", "Gradient"]


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def test_each_method_stands_at_its_place_between_control_and_oracle(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = faithfulness(view_of(card, rows))
    assert figure is not None
    assert [trace.name for trace in figure.data] == list(ALL)
    for trace in figure.data:
        assert list(trace.y) == TITLES
        assert list(trace.x) == pytest.approx([place for place, _ in MAPS.values()])
    assert [line.x0 for line in figure.layout.shapes] == [0, 1]
    assert "in 3 of 3 folds" in figure.data[0].text[0] and "another record's map" in figure.data[0].text[0]
    assert "in 0 of 3 folds" in figure.data[0].text[2]


def test_a_map_stands_beside_all_of_its_controls_and_the_best_order(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = areas(view_of(card, rows))
    assert figure is not None
    drawn = {trace.name: list(trace.x) for trace in figure.data}
    assert drawn["another record's map"] == pytest.approx([0.2] * 3)
    assert drawn["the same values in a random order"] == pytest.approx([0.05] * 3)
    assert drawn["map of the method"] == pytest.approx([area for _, area in MAPS.values()])
    assert [line.x0 for line in figure.layout.shapes] == pytest.approx([1.0])


def test_the_order_of_methods_is_drawn_by_each_replacement(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = replacements(view_of(card, rows))
    assert figure is not None
    assert [trace.name for trace in figure.data] == TITLES
    for trace, (_, area) in zip(figure.data, MAPS.values(), strict=True):
        assert list(trace.x) == ["another record's values", "each feature from another record"]
        assert list(trace.y) == pytest.approx([area + 0.1, area - 0.1])


def test_further_measures_stand_beside_their_control_and_say_whether_they_decide(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    table = measure_table(view_of(card, rows))
    assert table is not None and table.recipe == "standard"
    assert [(one.name, one.decides) for one in table.columns] == [("infidelity", True), ("sparseness", False)]
    cell = table.cells["Deep SHAP", "infidelity"]
    assert cell.own.mean == pytest.approx(0.9)
    assert cell.control is not None and cell.control.mean == pytest.approx(0.1)
    assert table.cells["Deep SHAP", "sparseness"].control is None
    assert np.isnan(cell.p)


def test_one_method_with_two_settings_is_two_lines(card: Scorecard, rows: pd.DataFrame) -> None:
    twice = select(rows, "faithfulness", method="deep_shap")
    with_groups = pd.Series([{**conditions, "groups": 8} for conditions in twice["conditions"]], index=twice.index)
    other = twice.assign(value=twice["value"] / 2, conditions=with_groups)
    figure = faithfulness(view_of(card, pd.concat([rows, other], ignore_index=True)))
    assert figure is not None
    at = dict(zip(figure.data[0].y, figure.data[0].x, strict=True))
    assert at["Deep SHAP"] == pytest.approx(0.5)
    assert at["Deep SHAP, groups 8"] == pytest.approx(0.25)


def test_nothing_is_drawn_where_nothing_was_measured(card: Scorecard, rows: pd.DataFrame) -> None:
    view = view_of(card, rows[(rows["name"] == "accuracy").to_numpy()])
    assert [draw(view) for draw in (faithfulness, areas, replacements)] == [None] * 3
    assert measure_table(view) is None
