"""No attack is left out, and every value is that of its rows."""

import pandas as pd
import pytest

from assay.report.cells import ScoreTable
from assay.report.scorecard import Scorecard
from assay.report.tables.attacks import attacks
from assay.store.folder import Store

HARM = {"random_noise": 0.2, "transfer": 0.5, "fgsm": 0.9, "square": 1.0, "autoattack": 1.4}


@pytest.fixture
def found(card_of_arsenal: Scorecard, arsenal: Store) -> ScoreTable:
    table = attacks(card_of_arsenal, arsenal.frame())
    assert table is not None
    return table


def test_every_attack_stands_beside_what_may_be_claimed_the_strongest_first(found: ScoreTable) -> None:
    keys = [column.key for column in found.evidence]
    assert keys[:3] == ["accuracy", "worst", "certified interval bounds"]
    # Twelve that were asked for, and one that answered a suspicion.
    attacked = [column.key for column in found.evidence if column.name == "robust_accuracy"]
    assert keys[3:16] == attacked
    assert [key for key in attacked if key in HARM] == ["autoattack", "square", "fgsm", "transfer", "random_noise"]


def test_every_value_is_the_mean_of_its_rows(found: ScoreTable, arsenal: Store) -> None:
    frame = arsenal.frame()
    for recipe in found.recipes:
        for attack in HARM:
            own = frame[(frame["recipe"] == recipe) & (frame["name"] == "robust_accuracy")]
            own = own[[c["attack"] == attack and c["epsilon"] == 0.3 for c in own["conditions"]]]
            cell = found.cells[recipe, attack]
            if (own["status"] == "measured").all():
                assert cell.summary is not None
                assert cell.summary.mean == pytest.approx(own["value"].mean())
                assert cell.records == 20
    assert found.records("fgsm") == "n = 20"


def test_what_is_missing_says_why(found: ScoreTable) -> None:
    missing = {key: cell.why for key, cell in found.cells.items() if cell.summary is None}
    assert missing["collision", "transfer"] == "there is no surrogate"
    assert missing["standard", "certified interval bounds"] == "no bound is known"
    assert missing["standard", "pgd_straight_through"] == "this was not asked of the model"


def test_other_threat_models_stand_to_the_right(found: ScoreTable) -> None:
    titles = [column.title for column in found.evidence]
    assert titles[-2:] == ["adversarial patch, 5 % of the area", "deepfool, median distance (L2)"]
    # FAB has an accuracy in this norm; its distance is told elsewhere.
    assert found.cells["standard", "deepfool_median_distance"].summary.mean == pytest.approx(0.4)  # type: ignore[union-attr]


def test_without_an_attack_there_is_no_table(card: Scorecard, whole: Store) -> None:
    frame: pd.DataFrame = whole.frame()
    assert attacks(card, frame) is not None
    assert attacks(card, frame[frame["name"] != "robust_accuracy"]) is None


def test_an_attack_on_survivors_alone_is_named_as_such(found: ScoreTable) -> None:
    titles = {column.key: column.title for column in found.evidence}
    assert titles["targeted_pgd"] == "targeted PGD, after all others"
    assert titles["random_noise"] == "random noise"
