"""Differences and costs are those of the scorecard."""

from collections.abc import Callable

import pandas as pd
import pytest

from assay.report.figures.comparison import accuracy_differences, cost
from assay.report.scorecard import Scorecard, scorecard
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def test_cost_is_the_geometric_mean_of_ratios_fold_by_fold(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = cost(view_of(card, rows))
    assert {bar.y[0]: bar.x[0] for bar in figure.data} == {
        "standard": pytest.approx(1.0),
        "private": pytest.approx((2.0 * 2.1 * 2.2) ** (1 / 3)),
        "fed": pytest.approx((2.0 * 2.1 * 2.2) ** (1 / 3)),
    }
    assert len(cost(view_of(card, rows, baseline="absent")).data) == 0


def test_filled_diamonds_differ_and_open_ones_are_inconclusive(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = {"standard": (0.9, 0.9, 0.9), "private": (0.5, 0.51, 0.49), "fed": (0.9, 0.95, 0.84)}
    records = [
        trial(recipe, fold, base=base, only={"accuracy"})
        for recipe, row in bases.items()
        for fold, base in enumerate(row)
    ]
    rows = frame(study(), records)
    card = scorecard(study(), "made", rows)
    figure = accuracy_differences(view_of(card, rows))
    by_name = {trace.y[0]: trace for trace in figure.data}
    assert set(by_name) == {"private", "fed"}
    assert {name: trace.marker.symbol for name, trace in by_name.items()} == {
        "private": "diamond",
        "fed": "diamond-open",
    }
    found = card.comparisons["private", "accuracy"]
    trace = by_name["private"]
    assert trace.x[0] == pytest.approx(found.difference)
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(found.high)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(found.low)
