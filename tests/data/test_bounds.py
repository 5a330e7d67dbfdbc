"""No loader hands on what its own bounds do not hold, and axes that may be swapped are asked about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.arrays import Arrays
from assay.data.base import Dataset
from assay.data.signals.ucr import UCR
from assay.errors import DataError


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """Writes records to a file, with labels 0 and 1 in turn."""

    def one(x: np.ndarray) -> str:
        np.savez(tmp_path / "data.npz", x=x, y=np.arange(len(x)) % 2)
        return str(tmp_path / "data.npz")

    return one


def test_a_record_outside_its_bounds_is_named(wdbc: Dataset) -> None:
    x = wdbc.x.copy()  # type: ignore[union-attr]
    x[7, 2], x[9, 0] = -168, 99
    with pytest.raises(DataError) as caught:
        replace(wdbc, x=x)
    error = caught.value
    assert (error.setting, error.given) == ("bounds", -168.0)
    assert error.allowed == (float(wdbc.low[2]), float(wdbc.high[2]))
    assert "2 of 569 records" in str(error)
    assert f"record 7, whose {wdbc.feature_names[2]} is -168" in str(error)


def test_what_lies_on_its_bounds_is_valid(wdbc: Dataset) -> None:
    low, high = wdbc.x.min(0), wdbc.x.max(0)  # type: ignore[union-attr]
    assert replace(wdbc, low=low, high=high).low is low


@pytest.mark.parametrize(
    ("modality", "shape"), [("signal", (1000, 12)), ("signal", (300, 1)), ("signal", (12, 12)), ("image", (28, 28, 8))]
)
def test_channels_that_may_be_last_are_asked_about(
    save: Callable[..., str], modality: Any, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    settings: dict[str, Any] = {"path": save(x), "modality": modality, "low": -9, "high": 9}
    with pytest.raises(DataError) as caught:
        Arrays(**settings).load()
    error = caught.value
    assert (error.setting, error.given, error.allowed) == ("channels", x.shape, ["first", "last"])
    assert Arrays(**settings, channels="first").load().shape == shape
    moved = Arrays(**settings, channels="last").load()
    assert np.array_equal(moved.x, np.moveaxis(x, -1, 1))


@pytest.mark.parametrize(("modality", "shape"), [("signal", (12, 1000)), ("signal", (1, 300)), ("image", (13, 64, 64))])
def test_channels_in_front_need_no_word(save: Callable[..., str], modality: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    assert Arrays(path=save(x), modality=modality, low=-9, high=9).load().shape == shape


@pytest.mark.parametrize("code", [-32768.0, -9999.0, 32767.0])
def test_a_value_far_from_all_others_is_warned_of_where_bounds_follow_the_data(
    save: Callable[..., str], code: float
) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 50)).astype(np.float32)
    plain = Arrays(path=save(x), modality="signal").load()
    assert len(plain.warnings) == 1
    x[3, 0, 4:9] = x[8, 0, 1] = code
    data = Arrays(path=save(x), modality="signal").load()
    assert data.warnings[1].startswith(f"2 of 20 records hold the value {code:g}, far from all others")
    with pytest.raises(DataError):
        Arrays(path=save(x), modality="signal", low=-9, high=9).load()


def test_series_of_the_archive_are_warned_of_likewise(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 30))
    rows[5, 3] = -9999
    lines = [f"{n % 2}\t" + "\t".join(f"{value:.4f}" for value in row) for n, row in enumerate(rows)]
    (tmp_path / "Own_TRAIN.tsv").write_text("\n".join(lines[:10]))
    (tmp_path / "Own_TEST.tsv").write_text("\ufeff" + "\n".join(lines[10:]), encoding="utf-8")
    data = UCR(path=str(tmp_path)).load()
    assert any("the value -9999" in line for line in data.warnings)


def test_rounding_is_no_violation(wdbc: Dataset) -> None:
    x = np.clip(wdbc.x, -1, 1)  # type: ignore[call-overload]
    low, high = np.full(30, -1, np.float32), np.full(30, 1, np.float32)
    x[0, 0] = np.float32(1 + 1e-7 * 8)
    assert replace(wdbc, x=x, low=low, high=high).high is high
    x[0, 0] = np.float32(1 + 1e-5)
    with pytest.raises(DataError):
        replace(wdbc, x=x, low=low, high=high)
