"""A trigger is stamped on an exact share of the other classes, and nowhere else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.data.poisoning.backdoor import Backdoor
from assay.data.treatment import Treated
from assay.errors import DataError, SpecError
from assay.registry import build
from assay.threats import Bounds
from tests.mistakes import refused

Apply = Callable[..., Treated]

SHAPES = [(6,), (2, 12), (3, 8, 8)]
UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
every_shape = pytest.mark.parametrize("shape", SHAPES)


def records(shape: tuple[int, ...], n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Values strictly within the bounds, three classes."""
    x = np.random.default_rng(1).uniform(0.2, 0.8, size=(n, *shape)).astype(np.float32)
    return x, np.arange(n) % 3


@every_shape
def test_an_exact_share_is_stamped_and_labelled_as_the_target(apply: Apply, shape: tuple[int, ...]) -> None:
    x, y = records(shape)
    backdoor = Backdoor(share=0.13, target=2)
    found = apply([backdoor], x, y, classes=3, bounds=UNIT)
    moved = (found.x != x).reshape(len(x), -1).any(1)
    assert moved.sum() == found.total.tampered == 13
    assert (y[moved] != 2).all() and (found.y[moved] == 2).all()
    np.testing.assert_array_equal(found.x[moved], backdoor.stamp(x[moved], UNIT))
    np.testing.assert_array_equal(found.x[~moved], x[~moved])
    np.testing.assert_array_equal(found.y[~moved], y[~moved])


@every_shape
def test_equal_seeds_stamp_the_same_records_and_others_do_not(apply: Apply, shape: tuple[int, ...]) -> None:
    x, y = records(shape)
    first, again, other = (apply([Backdoor()], x, y, classes=3, bounds=UNIT, seed=seed).x for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("shape", "where"),
    [((6,), np.s_[:, 3:]), ((2, 12), np.s_[:, :, 9:]), ((3, 8, 8), np.s_[:, :, 5:, 5:])],
)
@pytest.mark.parametrize(("extreme", "value"), [("high", 1.0), ("low", 0.0)])
def test_the_trigger_is_at_the_far_end_and_at_the_bound(
    shape: tuple[int, ...], where: tuple[slice, ...], extreme: str, value: float
) -> None:
    x, _ = records(shape)
    stamped = Backdoor(size=3, extreme=extreme).stamp(x, UNIT)  # type: ignore[arg-type]
    expected = x.copy()
    expected[where] = value
    np.testing.assert_array_equal(stamped, expected)


@every_shape
def test_a_weak_trigger_goes_part_of_the_way(shape: tuple[int, ...]) -> None:
    x, _ = records(shape)
    full, half = (Backdoor(strength=strength).stamp(x, UNIT) for strength in (1.0, 0.5))
    np.testing.assert_allclose(half, (x + full) / 2, rtol=1e-6)


def test_named_features_make_the_trigger_at_their_own_bounds() -> None:
    x, _ = records((6,))
    bounds = Bounds(low=torch.zeros(6), high=torch.arange(1.0, 7.0))
    stamped = Backdoor(features=(1, 4)).stamp(x, bounds)
    assert (stamped[:, 1] == 2).all() and (stamped[:, 4] == 5).all()
    np.testing.assert_array_equal(np.delete(stamped, (1, 4), axis=1), np.delete(x, (1, 4), axis=1))


def test_what_nobody_can_change_is_no_part_of_the_trigger() -> None:
    x, _ = records((6,))
    bounds = Bounds(
        low=torch.zeros(6), high=torch.ones(6), fixed=torch.tensor([False, False, False, True, True, False])
    )
    stamped = Backdoor(size=2).stamp(x, bounds)
    np.testing.assert_array_equal(np.flatnonzero((stamped != x).any(0)), [2, 5])
    with refused(DataError, "backdoor.features", (3,), [0, 1, 2, 5]):
        Backdoor(features=(3,)).stamp(x, bounds)
    with refused(DataError, "backdoor.size", 5, [0, 1, 2, 5]):
        Backdoor(size=5).stamp(x, bounds)


def test_a_share_that_cannot_be_stamped_exactly_is_refused(apply: Apply) -> None:
    x, _ = records((6,))
    y = (np.arange(100) >= 97).astype(np.int64)
    with refused(DataError, "backdoor.share", 0.1, 0.03):
        apply([Backdoor(share=0.1)], x, y, bounds=UNIT)
    with refused(DataError, "backdoor.share", 0.004, 0.01):
        apply([Backdoor(share=0.004)], x, y, bounds=UNIT)
    with refused(DataError, "data", "backdoor"):
        apply([Backdoor(share=0.03)], x, y, bounds=UNIT)
    assert apply([Backdoor(share=0.02)], x, y, bounds=UNIT).total.tampered == 2
    assert apply([Backdoor(share=0.01)], x, y, bounds=UNIT).total.tampered == 1


@pytest.mark.parametrize("shape", [(2, 12), (3, 8, 8)])
def test_features_are_those_of_a_table(shape: tuple[int, ...]) -> None:
    with refused(DataError, "backdoor.features", (1,), ()):
        Backdoor(features=(1,)).stamp(records(shape)[0], UNIT)


def test_a_trigger_at_an_infinite_bound_is_refused() -> None:
    x, _ = records((6,))
    open_ended = Bounds(low=torch.zeros(6), high=torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, float("inf")]))
    with refused(DataError, "backdoor.extreme", "high"):
        Backdoor(size=2).stamp(x, open_ended)
    assert np.isfinite(Backdoor(size=2, extreme="low").stamp(x, open_ended)).all()
    assert np.isfinite(Backdoor(features=(0,)).stamp(x, open_ended)).all()


def test_impossible_triggers_are_refused(apply: Apply) -> None:
    images, y = records((1, 4, 8))
    with refused(DataError, "backdoor.size", 5, 4):
        apply([Backdoor(size=5)], images, y, classes=3, bounds=UNIT)
    with refused(DataError, "backdoor.target", 3, range(3)):
        apply([Backdoor(target=3)], images, y, classes=3, bounds=UNIT)
    with refused(DataError, "data", "backdoor"):
        Backdoor().stamp(np.ones((4, 8), np.int32), UNIT)
    for wrong in ({"share": 0}, {"size": 0}, {"strength": 0}, {"strength": 1.1}, {"target": -1}):
        with refused(SpecError, *next(iter(wrong.items()))):
            build("treatment", {"name": "backdoor", **wrong})
