"""Explanations of images as pictures: signs, one scale, the pixels of the source, and the same bytes each time."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from serve.answers import overlays
from serve.answers.overlays import MOST_SIDE, overlay, scale_of
from serve.inputs.placement import Placement


def pixels(drawn: dict) -> np.ndarray:
    """(height, width, 4) red, green, blue and opacity."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["png"]))).convert("RGBA")).astype(int)


def test_for_is_red_against_is_blue_and_nothing_is_transparent() -> None:
    found = pixels(overlay(np.array([[1.0, 0.0, -1.0]], np.float32), 1.0, None))[0]
    assert found[0, 0] > found[0, 2] and found[2, 2] > found[2, 0]
    assert found[0, 3] == found[2, 3] > 200 and found[1, 3] == 0


def test_a_value_has_the_same_colour_on_every_map_of_a_call() -> None:
    maps = [np.array([[0.5, 2.0]], np.float32), np.array([[0.5, -0.1]], np.float32)]
    scale = scale_of(maps)
    first, second = (pixels(overlay(one, scale, None)) for one in maps)
    np.testing.assert_array_equal(first[0, 0], second[0, 0])
    assert 1.9 < scale <= 2.0 and scale_of([np.zeros((2, 2))]) == 1.0


def test_one_great_value_does_not_make_the_others_pale() -> None:
    values = np.full((50, 50), 0.1, np.float32)
    values[0, 0] = 100
    assert scale_of([values]) == pytest.approx(0.1)


def test_a_map_returns_to_the_part_of_the_source_that_it_came_from() -> None:
    placement = Placement(source=(40, 60), box=(10, 0, 50, 40), record=(4, 4))
    values = np.zeros((4, 4), np.float32)
    values[3, 0] = 1.0
    drawn = overlay(values, 1.0, placement)
    opacity = pixels(drawn)[:, :, 3]
    assert opacity.shape == (40, 60) and drawn["source"] == [40, 60]
    row, column = np.unravel_index(opacity.argmax(), opacity.shape)
    assert 30 <= row < 40 and 10 <= column < 20
    assert not opacity[:, :10].any() and not opacity[:, 50:].any()


def test_an_overlay_of_a_large_image_covers_it_with_fewer_pixels() -> None:
    side = 2 * MOST_SIDE + 2
    placement = Placement(source=(side, 101), box=(0, side / 2, 101, side), record=(2, 2))
    drawn = overlay(np.ones((2, 2), np.float32), 1.0, placement)
    opacity = pixels(drawn)[:, :, 3]
    assert (drawn["source"], drawn["box"]) == ([side, 101], [0, side / 2, 101, side])
    assert opacity.shape == (MOST_SIDE, 50)
    half = MOST_SIDE // 2
    assert not opacity[:half].any() and opacity[half:].all()


def test_the_same_map_gives_the_same_bytes() -> None:
    values = np.random.default_rng(0).normal(size=(28, 28)).astype(np.float32)
    first = overlay(values, 2.0, None)
    overlays._palette.cache_clear()
    assert overlay(values, 2.0, None) == first
