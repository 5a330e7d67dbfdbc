"""The table of rounds shows means over runs, and failures of all runs."""

from collections.abc import Callable

import pandas as pd
import pytest

from assay.federated.network import NETWORKS
from assay.report.scorecard import scorecard
from assay.report.sections.rounds import RoundsSection
from assay.report.tables.rounds import rounds
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of


def told(fold: int) -> tuple[Measurement, ...]:
    def row(name: str, value: float, unit: str = "rounds", **conditions: object) -> Measurement:
        return Measurement(name=name, value=value, unit=unit, n=10, conditions=conditions)

    return (
        row("rounds_completed", 10),
        row("answered_share", 0.8 + fold / 10, "fraction"),
        row("round_failures", 3 * (1 - fold), "failures", cause="late"),
        row("round_failures", 5 + fold, "failures", cause="absent"),
        row("round_failures", 0, "failures", cause="raised"),
        row("least_client_rounds", 4 + fold),
        row("most_client_rounds", 9 + fold),
        *(row(name, 1e6 * (1 + fold), "bytes") for name in ("bytes_up_per_round", "bytes_down_per_round")),
        *(row(name, 1e7 * (1 + fold), "bytes") for name in ("bytes_up", "bytes_down")),
        row("network_compute_seconds", 10, "seconds", network="hospital_wan"),
        row("network_communication_seconds", 2 + 2 * fold, "seconds", network="hospital_wan"),
    )


@pytest.fixture
def rows(
    study: Callable[..., Study], trial: Callable[..., TrialRecord], frame: Callable[..., pd.DataFrame]
) -> pd.DataFrame:
    return frame(study(), [trial("fed", fold, measurements=told(fold)) for fold in range(2)])


def test_figures_are_means_and_failures_are_sums(rows: pd.DataFrame, study: Callable[..., Study]) -> None:
    (row,) = rounds(scorecard(study(), "made", rows), rows)
    assert (row.recipe, row.completed, row.answered) == ("fed", 10, pytest.approx(0.85))
    assert dict(row.failures) == {"absent": 11, "late": 3}
    assert (row.least, row.most, row.up, row.down, row.total) == (4, 10, 1.5e6, 1.5e6, 3e7)
    ((title, time),) = row.times.items()
    assert title == NETWORKS["hospital_wan"].title
    assert (time.seconds, time.added) == (pytest.approx(13), pytest.approx(0.3))


def test_a_study_without_rounds_has_no_section(whole: Store, study: Callable[..., Study]) -> None:
    frame = whole.frame()
    card = scorecard(study(), "made", frame)
    assert rounds(card, frame) == []
    assert RoundsSection(name="rounds").build(view_of(card, frame)) is None
