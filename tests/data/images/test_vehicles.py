"""Photographs in two classes, in the form of small X-rays."""

from pathlib import Path

import numpy as np
import pytest

from assay.data.images.cifar10 import CLASSES
from assay.data.images.vehicles import Vehicles


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two of each kind for training and one for testing, in the folder where the loader looks."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    labels = np.arange(30) % 10
    (tmp_path / "cifar10").mkdir()
    np.savez(
        tmp_path / "cifar10" / "cifar10.npz",
        x_train=pixels[:20],
        y_train=labels[:20],
        x_test=pixels[20:],
        y_test=labels[20:],
        class_names=np.array(CLASSES),
    )
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    return pixels


def test_they_are_grey_and_cropped_and_vehicles_are_told_from_animals(photographs: np.ndarray) -> None:
    data = Vehicles().load()
    assert data.x.shape == (30, 1, 28, 28)
    assert data.y[:10].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(data.x[:, 0], photographs[:, 2:30, 2:30].mean(-1) / 255, atol=1e-6)
    assert data.official is not None and (data.official == "test").sum() == 10
    assert not data.unpaid_preprocessing and data.x.min() >= 0 and data.x.max() <= 1
