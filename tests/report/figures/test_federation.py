"""Clients stand between the two ends."""

from dataclasses import replace

import pandas as pd
import pytest

from assay.report.figures.federation import clients
from assay.report.scorecard import Scorecard
from assay.store.folder import Store
from tests.report.views import view_of


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def test_clients_stand_between_both_ends(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = clients(view_of(card, rows))
    assert figure is not None
    assert [len(box.y) for box in figure.data] == [3, 3, 3, 3]
    alone, federated, everywhere, together = (sorted(box.y) for box in figure.data)
    assert alone == pytest.approx([0.86 - client / 20 for client in (3, 2, 1)])
    assert federated == pytest.approx([0.86 - client / 50 for client in (3, 2, 1)])
    assert everywhere == pytest.approx([0.85, 0.86, 0.87])
    assert together == pytest.approx([0.87, 0.88, 0.89])


def test_without_a_federation_there_are_no_clients(card: Scorecard, rows: pd.DataFrame) -> None:
    assert clients(view_of(replace(card, recipes=("standard", "private")), rows)) is None
