"""Labels are flipped in an exact share, and blindly."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.data.poisoning.backdoor import Backdoor
from assay.data.poisoning.label_flips import LabelFlips
from assay.data.treatment import Treated
from assay.errors import DataError
from assay.threats import Bounds
from tests.mistakes import refused

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


@pytest.mark.parametrize("seed", range(3))
def test_a_second_flip_brings_no_true_label_back(clouds: Clouds, apply: Apply, seed: int) -> None:
    x, y = clouds()
    found = apply([LabelFlips(share=0.4), LabelFlips(share=0.3)], x, y, seed=seed)
    assert found.total.tampered == (found.y != y).sum() == 140


def test_a_flip_after_a_backdoor_leaves_its_records_alone(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds()
    bounds = Bounds(low=torch.tensor(-50.0), high=torch.tensor(50.0))
    found = apply([Backdoor(share=0.3), LabelFlips(share=0.3)], x, y, bounds=bounds)
    assert found.total.tampered == 120
    stamped = (found.x != x).any(1)
    assert (found.y[stamped] == 0).all()


def test_what_cannot_be_flipped_is_refused(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds()
    with refused(DataError, "data", "label_flips", 2):
        apply([LabelFlips()], x, np.zeros_like(y), classes=1)
    with refused(DataError, "label_flips.share", 0.001, 1 / 200):
        apply([LabelFlips(share=0.001)], x, y)
    with refused(DataError, "label_flips.share", 0.5, 80 / 200):
        apply([LabelFlips(share=0.6), LabelFlips(share=0.5)], x, y)
