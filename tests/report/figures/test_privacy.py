"""What is not private stands at infinity."""

from collections.abc import Callable

import pandas as pd
import pytest

from assay.report.figures.privacy import privacy
from assay.report.scorecard import Scorecard, scorecard
from assay.results import Measurement, TrialRecord
from assay.study.spec import Study

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")


def test_privacy_shows_every_recipe_and_what_is_not_private_at_infinity(card: Scorecard) -> None:
    figure = privacy(card)
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
    (trace,) = privacy(scorecard(study(), "made", frame(study(), records))).data
    assert trace.y[0] + trace.error_y.array[0] <= 1
    assert trace.y[0] - trace.error_y.arrayminus[0] >= 0


def test_what_did_not_apply_is_not_drawn(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    failed = Measurement(name="accuracy", status="failed", warnings=("odd",))
    table = frame(study(), [trial("standard", 0, measurements=(failed,))])
    assert len(privacy(scorecard(study(), "made", table)).data) == 0
