"""Curves show the mean accuracy of a round at its mean seconds and bytes."""

from collections.abc import Callable

import pandas as pd
import pytest

from assay.report.figures.learning import learning
from assay.report.scorecard import Scorecard
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

CURVE = {1: 0.5, 5: 0.7, 10: 0.8}


def point(number: int, accuracy: float, seconds: float, sent: float) -> list[Measurement]:
    about = {"round": number}
    return [
        Measurement(name="round_accuracy", value=accuracy, n=50, conditions=about),
        Measurement(name="round_elapsed_seconds", value=seconds, unit="seconds", conditions=about),
        Measurement(name="round_sent_bytes", value=sent, unit="bytes", conditions=about),
    ]


@pytest.fixture
def rows(
    study: Callable[..., Study], trial: Callable[..., TrialRecord], frame: Callable[..., pd.DataFrame]
) -> Callable[..., pd.DataFrame]:
    """Two folds of ``fed``, the second a tenth better and twice as slow; ``private`` sends a share of its bytes."""

    def build(share: float = 0.5) -> pd.DataFrame:
        records = [
            trial(
                recipe,
                fold,
                measurements=tuple(
                    row
                    for number, value in CURVE.items()
                    for row in point(number, value + fold / 10, number * (1 + fold), factor * number * 2e6)
                ),
            )
            for recipe, factor in (("fed", 1.0), ("private", share))
            for fold in range(2)
        ]
        return frame(study(), records)

    return build


def test_points_are_means_over_runs(card: Scorecard, rows: Callable[..., pd.DataFrame]) -> None:
    figure = learning(view_of(card, rows()))
    assert figure is not None
    by_round, by_second, by_byte = (line for line in figure.data if line.name == "fed")
    for line in (by_round, by_second, by_byte):
        assert list(line.y) == pytest.approx([0.55, 0.75, 0.85])
    assert list(by_round.x) == [1, 5, 10]
    assert list(by_second.x) == pytest.approx([1.5, 7.5, 15])
    assert list(by_byte.x) == pytest.approx([2, 10, 20])
    assert [line.showlegend for line in (by_round, by_second, by_byte)] == [True, False, False]
    bands = [line for line in figure.data if line.fill == "toself"]
    assert len(bands) == 6 and min(bands[0].y) < 0.55 < max(bands[0].y)


@pytest.mark.parametrize(("share", "scale"), [(0.5, None), (0.01, "log")])
def test_recipes_that_send_far_less_are_drawn_on_a_logarithmic_scale(
    share: float, scale: str | None, card: Scorecard, rows: Callable[..., pd.DataFrame]
) -> None:
    figure = learning(view_of(card, rows(share)))
    assert figure is not None and figure.layout.xaxis3.type == scale


def test_without_rounds_nothing_is_drawn(card: Scorecard, whole: Store) -> None:
    assert learning(view_of(card, whole.frame())) is None
