"""The digits are what they are known to be."""

import numpy as np

from assay.registry import build


def test_digits_are_images_between_black_and_white() -> None:
    digits = build("dataset", "digits").load()
    assert (digits.x.shape, digits.x.dtype) == ((1797, 1, 8, 8), np.float32)
    assert (digits.x.min(), digits.x.max()) == (0.0, 1.0)
    assert (digits.classes, len(digits.feature_names)) == (10, 64)
    # Alpaydin & Kaynak's test file holds 178 zeros and 174 eights.
    assert np.bincount(digits.y)[[0, 8]].tolist() == [178, 174]
    ones = digits.x[digits.y == 1].mean(0)[0]
    assert ones[:, 3:5].sum() > 3 * ones[:, :2].sum()
