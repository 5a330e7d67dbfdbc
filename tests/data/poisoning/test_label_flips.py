"""Labels are flipped in an exact share, and blindly."""

from collections.abc import Callable

import numpy as np
import pytest

from assay.data.poisoning.label_flips import LabelFlips
from assay.data.treatment import Treated

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]


@pytest.mark.parametrize("classes", [2, 5])
def test_a_share_of_the_labels_becomes_another_one(clouds: Clouds, apply: Apply, classes: int) -> None:
    x, y = clouds(classes=classes)
    flips = [LabelFlips(share=0.3)]
    found = apply(flips, x, y, classes=classes, seed=1)
    assert (found.y != y).sum() == found.total.tampered == 60
    assert set(np.unique(found.y)) <= set(range(classes))
    np.testing.assert_array_equal(found.x, x)
    again, other = (apply(flips, x, y, classes=classes, seed=seed).y for seed in (1, 2))
    assert np.array_equal(found.y, again) and not np.array_equal(found.y, other)


def test_labels_are_flipped_without_regard_to_the_record(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds(2000)
    flipped = apply([LabelFlips(share=0.2)], x, y).y != y
    assert abs(flipped[y == 0].mean() - flipped[y == 1].mean()) < 0.05
