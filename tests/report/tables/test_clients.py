"""What was measured of clients' records, in the table and in the figure."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.partition import Partition
from assay.evaluations.client_labels import labels_of_clients
from assay.report.figures.partition import partition
from assay.report.scorecard import scorecard
from assay.report.tables.clients import class_counts, partitions
from assay.store.folder import Store
from tests.report.views import view_of

LABELS = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
DEALT = [
    Partition(parts=(np.arange(4), np.arange(4, 10)), sites=("<north>", "south"), note="2 clients, one for each site"),
    Partition(parts=(np.arange(5), np.arange(5, 10)), sites=("<north>", "south"), note="2 clients, one for each site"),
]


@pytest.fixture
def rows(trial: Callable[..., Any], frame: Callable[..., pd.DataFrame], study: Callable[..., Any]) -> pd.DataFrame:
    """Results in which the federated recipe's records were dealt otherwise in each fold."""
    dataset: Any = SimpleNamespace(y=LABELS, classes=2, class_names=("well", "ill"))
    records = []
    for fold, dealt in enumerate(DEALT):
        subject: Any = SimpleNamespace(dataset=dataset, seed=0)
        made = trial("fed", fold)
        records.append(replace(made, measurements=(*made.measurements, *labels_of_clients(subject, dealt))))
    return frame(study(), [trial("standard", 0), *records])


def test_a_recipe_is_described_over_its_runs(rows: pd.DataFrame, study: Callable[..., Any]) -> None:
    (row,) = partitions(scorecard(study(), "made", rows), rows)
    assert (row.recipe, row.clients, row.fewest, row.most) == ("fed", 2, 4, 6)
    pool = np.array([0.4, 0.6])

    def distance(p: list[float]) -> float:
        return float(np.sqrt(1 - np.sqrt(np.array(p) * pool).sum()))

    first = [distance([3 / 4, 1 / 4]), distance([1 / 6, 5 / 6])]
    second = [distance([4 / 5, 1 / 5]), distance([0, 1])]
    assert row.hellinger == pytest.approx(np.mean([first, second]))
    assert row.worst_hellinger == pytest.approx((max(first) + max(second)) / 2)
    assert row.notes == ("2 clients, one for each site",)
    assert row.size_hellinger == pytest.approx(np.sqrt(1 - np.sqrt(np.array([0.4, 0.6]) / 2).sum()) / 2)


def test_the_figure_stacks_the_classes_of_the_first_run(rows: pd.DataFrame, study: Callable[..., Any]) -> None:
    figure = partition(view_of(scorecard(study(), "made", rows), rows))
    assert figure is not None
    assert figure.layout.barmode == "stack"
    assert {bar.name: list(bar.y) for bar in figure.data} == {"well": [3, 1], "ill": [1, 5]}
    assert list(figure.data[0].x) == ["&lt;north>", "south"]
    title = figure.layout.annotations[0].text
    assert title.startswith("fed: Hellinger distance from all clients 0.22 on average, 0.25 at most (0.1")


def test_without_counted_clients_nothing_is_drawn(whole: Store, study: Callable[..., Any]) -> None:
    frame = whole.frame()
    card = scorecard(study(), "made", frame)
    assert partition(view_of(card, frame)) is None
    assert partitions(card, frame) == []
    assert class_counts(frame, "fed") is None
