"""Neighbours expose labels that they contradict."""

from collections.abc import Callable

import numpy as np

from assay.data.poisoning.label_flips import LabelFlips
from assay.data.sanitation.knn import KNNSanitation
from assay.data.treatment import Treated
from assay.errors import DataError
from tests.mistakes import refused

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]


def test_neighbours_expose_flipped_labels_of_separate_clouds(clouds: Clouds, apply: Apply) -> None:
    found = apply([LabelFlips(share=0.2), KNNSanitation(neighbours=10)], *clouds(), seed=3)
    total = found.total
    assert total.tampered == 40
    assert total.removed_tampered >= 38
    assert total.removed - total.removed_tampered <= 4
    assert len(found.y) == 200 - total.removed


def test_a_record_is_no_neighbour_of_its_own(apply: Apply) -> None:
    x = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]], np.float32)
    found = apply([KNNSanitation(neighbours=2)], x, np.array([0, 0, 1, 1, 1, 1]))
    # 0.2 is called 1 among zeros; each zero has one of them and one impostor near it: half is enough to stay.
    assert found.total.removed == 1
    np.testing.assert_array_equal(found.x[:, 0], x[[0, 1, 3, 4, 5], 0])


def test_positions_of_words_have_no_neighbours(apply: Apply) -> None:
    words = np.arange(40, dtype=np.int64).reshape(20, 2)
    with refused(DataError, "data", "knn_sanitation", "embedding=encoder"):
        apply([KNNSanitation(neighbours=2)], words, np.arange(20) % 2)


def test_too_few_records_are_an_error(clouds: Clouds, apply: Apply) -> None:
    with refused(DataError, "knn_sanitation.neighbours", 10, 7):
        apply([KNNSanitation(neighbours=10)], *clouds(8))
