"""Precision and recall of what was filtered, of all defences together and of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.evaluations.subject import Subject
from assay.evaluations.training_data import TrainingData
from assay.recipes import Recipe
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]

FIRST = {"knn_sanitation.tampered": 0, "knn_sanitation.removed": 10, "knn_sanitation.removed_tampered": 8}
SECOND = {"loss_sanitation.tampered": 0, "loss_sanitation.removed": 10, "loss_sanitation.removed_tampered": 3}
FLIPS = {"label_flips.tampered": 20, "label_flips.removed": 0, "label_flips.removed_tampered": 0}


@pytest.fixture
def measure(make: Make, log: Any) -> Callable[..., list[Measurement]]:
    def run(data: tuple[str, ...], **counts: int) -> list[Measurement]:
        subject = make(nn.Identity(), np.eye(2), [0, 1], recipe=Recipe(data=data), log=log(treatment=counts))
        return list(TrainingData().measure(subject))  # type: ignore[arg-type]

    return run


def test_precision_is_of_the_removed_and_recall_of_the_tampered(measure: Callable[..., Any], one: One) -> None:
    counts = {"given": 100, "tampered": 20, "removed": 10, "removed_tampered": 8, **FLIPS, **FIRST}
    found = measure(("label_flips", "knn_sanitation"), **counts)
    assert len(found) == 4, "one defence has no rows beside those of all"
    precision, recall = one(found, "sanitation_precision"), one(found, "sanitation_recall")
    assert (precision.value, precision.n, recall.value, recall.n) == (0.8, 10, 0.4, 20)
    assert one(found, "tampered_share").value == 0.2 and one(found, "removed_share").value == 0.1


def test_each_of_several_defences_is_judged_by_what_reached_it(measure: Callable[..., Any], one: One) -> None:
    counts = {"given": 100, "tampered": 20, "removed": 20, "removed_tampered": 11, **FLIPS, **FIRST, **SECOND}
    found = measure(("label_flips", "knn_sanitation", "loss_sanitation"), **counts)
    assert [m.value for m in found if m.name == "sanitation_recall" and "treatment" not in m.conditions] == [11 / 20]
    for name, precision, recall in (("knn_sanitation", 0.8, 8 / 20), ("loss_sanitation", 0.3, 3 / 12)):
        assert one(found, "sanitation_precision", treatment=name).value == precision
        assert one(found, "sanitation_recall", treatment=name).value == recall


def test_what_was_not_asked_is_not_applicable(measure: Callable[..., Any]) -> None:
    assert all(m.status == "not_applicable" for m in measure(()))
    rows = measure(("knn_sanitation",), given=100, tampered=0, removed=0, removed_tampered=0)
    assert [m.status for m in rows] == ["measured", "measured", "not_applicable", "not_applicable"]
