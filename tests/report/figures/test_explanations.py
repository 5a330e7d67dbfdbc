"""Explanations are drawn by what they gain."""

import pandas as pd
import pytest

from assay.report.figures.explanations import faithfulness
from assay.report.rows import select
from assay.report.scorecard import Scorecard
from assay.store.folder import Store
from tests.report.views import view_of

ALL = ("standard", "private", "fed")


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def test_each_kind_of_explanation_is_drawn_by_what_it_gains_over_a_random_order(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    figure = faithfulness(view_of(card, rows))
    assert {bar.name: list(bar.y) for bar in figure.data} == {
        "integrated gradients": pytest.approx([0.2] * 3),
        "SHAP": pytest.approx([0.1] * 3),
    }
    assert all(list(bar.x) == list(ALL) for bar in figure.data)


def test_attention_stands_beside_the_other_explanations_where_it_was_measured(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    gains = select(rows, "insertion_gain", method="deep_shap")
    attention = gains.assign(
        value=gains["value"] / 2, conditions=[{**c, "method": "attention"} for c in gains["conditions"]]
    )
    figure = faithfulness(view_of(card, pd.concat([rows, attention], ignore_index=True)))
    assert {bar.name: list(bar.y) for bar in figure.data}["attention"] == pytest.approx([0.05] * 3)
