"""What poisoning changes and what sanitation removes, counted right."""

import numpy as np
import pytest

from assay.data.poisoning import LabelFlips
from assay.data.sanitation import KNNSanitation
from assay.data.treatment import treat
from assay.errors import DataError


def clouds(n: int = 200, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Well separated clouds of points."""
    y = np.arange(n) % classes
    x = np.random.default_rng(0).normal(size=(n, 3)) + 20 * y[:, None]
    return x.astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 5])
def test_a_share_of_the_labels_becomes_another_one(classes: int) -> None:
    x, y = clouds(classes=classes)
    found = treat([LabelFlips(share=0.3)], x, y, classes=classes, seed=1)
    assert (found.y != y).sum() == found.tampered == 60
    assert set(np.unique(found.y)) <= set(range(classes))
    np.testing.assert_array_equal(found.x, x)
    again, other = (treat([LabelFlips(share=0.3)], x, y, classes=classes, seed=seed).y for seed in (1, 2))
    assert np.array_equal(found.y, again) and not np.array_equal(found.y, other)


def test_labels_are_flipped_without_regard_to_the_record() -> None:
    x, y = clouds(2000)
    flipped = treat([LabelFlips(share=0.2)], x, y, classes=2, seed=0).y != y
    assert abs(flipped[y == 0].mean() - flipped[y == 1].mean()) < 0.05


def test_neighbours_expose_flipped_labels_of_separate_clouds() -> None:
    x, y = clouds()
    found = treat([LabelFlips(share=0.2), KNNSanitation(neighbours=10)], x, y, classes=2, seed=3)
    assert found.counts["tampered"] == 40
    assert found.removed_tampered >= 38
    assert found.removed - found.removed_tampered <= 4
    assert len(found.y) == 200 - found.removed


def test_a_record_is_no_neighbour_of_its_own() -> None:
    x = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]], np.float32)
    found = treat([KNNSanitation(neighbours=2)], x, np.array([0, 0, 1, 1, 1, 1]), classes=2, seed=0)
    # 0.2 is called 1 among zeros; each zero has one of them and one impostor near it: half is enough to stay.
    assert found.removed == 1
    np.testing.assert_array_equal(found.x[:, 0], x[[0, 1, 3, 4, 5], 0])


def test_positions_of_words_have_no_neighbours() -> None:
    words = np.arange(40, dtype=np.int64).reshape(20, 2)
    with pytest.raises(DataError, match=r"of type int64, not floating point.*embedding=encoder"):
        treat([KNNSanitation(neighbours=2)], words, np.arange(20) % 2, classes=2, seed=0)


def test_nothing_asked_is_nothing_done() -> None:
    x, y = clouds()
    found = treat([], x, y, classes=2, seed=0)
    assert found.x is x and found.counts == {"given": 200, "tampered": 0, "removed": 0, "removed_tampered": 0}


def test_too_few_records_and_lost_classes_are_errors() -> None:
    x, y = clouds(8)
    with pytest.raises(DataError, match="8 records have no 10 neighbours; lower neighbours"):
        treat([KNNSanitation(neighbours=10)], x, y, classes=2, seed=0)
    lone = np.array([0, 1, 1, 1, 1, 1, 1, 1])
    with pytest.raises(DataError, match="knn_sanitation leaves 7 of 8 training records, of 1 class"):
        treat([KNNSanitation(neighbours=3)], x, lone, classes=2, seed=0)
