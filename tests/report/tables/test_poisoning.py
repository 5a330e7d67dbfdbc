"""What was filtered is told of every recipe that was tampered with or filtered."""

import pytest

from assay.report.scorecard import Scorecard
from assay.report.tables.poisoning import poisoning
from assay.store.folder import Store


def test_precision_and_recall_are_those_of_all_defences_together(card_of_arsenal: Scorecard, arsenal: Store) -> None:
    table = poisoning(card_of_arsenal, arsenal.frame())
    assert table is not None
    assert table.recipes == ("backdoor_5", "backdoor_10", "cleaned_5", "cleaned_10", "cleaned_0", "collision")
    means = {key: cell.summary.mean for key, cell in table.cells.items() if cell.summary is not None}
    # Beside it stands a row of one defence alone, which says something else.
    assert means["cleaned_5", "precision"] == pytest.approx(0.6)
    assert means["cleaned_5", "recall"] == pytest.approx(0.9)
    assert means["cleaned_5", "backdoor"] == pytest.approx(0.2)
    assert means["cleaned_5", "undefended"] == pytest.approx(0.95)
    assert means["collision", "collision"] == pytest.approx(0.4)
    assert means["collision", "collision base"] == pytest.approx(0.2)
    assert table.cells["collision", "backdoor"].why == "no backdoor is planted"


def test_without_poison_there_is_no_table(card: Scorecard, whole: Store) -> None:
    assert poisoning(card, whole.frame()) is None
