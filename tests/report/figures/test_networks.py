"""Bars are the seconds that were measured, computation below and communication on top."""

from collections.abc import Callable

import pandas as pd
import pytest

from assay.federated.network import NETWORKS
from assay.report.figures.networks import COMMUNICATION, COMPUTE, network_time
from assay.report.scorecard import Scorecard
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of


@pytest.fixture(scope="module")
def rows(
    study: Callable[..., Study],
    trial: Callable[..., TrialRecord],
    fill: Callable[..., Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> pd.DataFrame:
    """Two folds of one federated recipe: 10 and 12 s of computation, and 1, 2 and 3 times as long on the way."""
    records = [
        trial(
            "fed",
            fold,
            measurements=tuple(
                Measurement(name=name, value=value, unit="seconds", conditions={"network": network})
                for times, network in enumerate(NETWORKS, start=1)
                for name, value in ((COMPUTE, 10.0 + 2 * fold), (COMMUNICATION, times * (10.0 + 2 * fold)))
            ),
        )
        for fold in range(2)
    ]
    return fill(study(), tmp_path_factory.mktemp("networks"), records).frame()


def test_bars_are_means_of_the_measured_seconds(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = network_time(view_of(card, rows))
    assert figure is not None and figure.layout.barmode == "stack"
    bars = [bar for bar in figure.data if bar.x[0] == "fed"]
    assert [bar.y[0] for bar in bars] == pytest.approx([11, 11, 11, 22, 11, 33])
    assert [bar.text[0] for bar in bars if bar.text] == ["+100%", "+200%", "+300%"]
    assert [title.text for title in figure.layout.annotations] == [network.title for network in NETWORKS.values()]
    assert [bar.name for bar in figure.data if bar.showlegend is None] == ["computation", "communication"]


def test_without_a_federation_there_is_nothing_to_draw(card: Scorecard, whole: Store) -> None:
    assert network_time(view_of(card, whole.frame())) is None
