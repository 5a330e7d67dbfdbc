"""Poison with the right labels: near in input space, on top of its target in feature space."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.poisoning.feature_collision import FeatureCollision
from assay.data.treatment import Treated, held_out
from assay.errors import DataError
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests.mistakes import refused

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]

UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    y = np.arange(120) % 2
    return (generator.uniform(0, 0.6, size=(120, 1, 6, 6)) + 0.3 * y[:, None, None, None]).astype(np.float32), y


def network() -> nn.Module:
    """The features are a random projection to fewer numbers than a record has inputs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh()).requires_grad_(False)


def test_a_collision_is_near_its_target_in_features_and_within_the_budget_in_inputs(
    images: tuple[np.ndarray, np.ndarray], fixed: type
) -> None:
    x, y = images
    base, targets = x[y == 0][:8], x[y == 1][:8]
    model = network()
    found = FeatureCollision(epsilon=0.1).collide(fixed(model), base, targets, UNIT)

    def apart(records: np.ndarray) -> Tensor:
        return (model(torch.from_numpy(records)) - model(torch.from_numpy(targets))).norm(dim=1)

    closer = apart(found) / apart(base)
    assert closer.median() < 0.2
    assert closer.max() < 0.5
    assert np.abs(found - base).max() <= 0.1 + 1e-6
    assert found.min() >= 0 and found.max() <= 1
    assert np.abs(found - targets).reshape(8, -1).max(1).min() > 0.2, "the records themselves stay apart"


def test_more_steps_end_no_farther_from_the_target(images: tuple[np.ndarray, np.ndarray], fixed: type) -> None:
    x, y = images
    model = network()
    goal = model(torch.from_numpy(x[y == 1][:8]))
    distances = []
    for epsilon, steps in ((1e-4, 1), (0.02, 5), (0.1, 50)):
        moved = FeatureCollision(epsilon=epsilon, steps=steps).collide(fixed(model), x[y == 0][:8], x[y == 1][:8], UNIT)
        distances.append((model(torch.from_numpy(moved)) - goal).norm(dim=1))
    before = (model(torch.from_numpy(x[y == 0][:8])) - goal).norm(dim=1)
    assert (
        (distances[0] <= before).all() and (distances[1] < distances[0]).all() and (distances[2] < distances[1]).all()
    )


def test_a_step_past_the_target_is_taken_back(fixed: type) -> None:
    base, targets = (np.full((2, 1, 2, 2), value, np.float32) for value in (0.5, 0.51))
    long_step = FeatureCollision(epsilon=0.3, steps=1, opacity=0.0)
    found = long_step.collide(fixed(lambda x: x.flatten(1)), base, targets, UNIT)
    np.testing.assert_array_equal(found, base)


def test_an_exact_share_of_the_base_class_is_moved_and_keeps_its_label(
    images: tuple[np.ndarray, np.ndarray], apply: Apply, fixed: type
) -> None:
    x, y = images
    collision = FeatureCollision(epsilon=0.1, share=0.1, targets=4, steps=5)
    settings = {"bounds": UNIT, "fit": fixed(network()), "seed": 3}
    found = apply([collision], x, y, **settings)
    aims = held_out([collision], y, seed=3)["feature_collision"]
    assert len(aims) == 4 and (y[aims] == 1).all()
    left_x, left_y = np.delete(x, aims, axis=0), np.delete(y, aims)
    np.testing.assert_array_equal(found.y, left_y)
    moved = (found.x != left_x).reshape(len(left_x), -1).any(1)
    assert moved.sum() == found.total.tampered == 12
    assert (left_y[moved] == 0).all()
    np.testing.assert_array_equal(found.x, apply([collision], x, y, **settings).x)
    assert not np.array_equal(found.x, apply([collision], x, y, **{**settings, "seed": 4}).x)


def test_inputs_that_nobody_can_change_stay(images: tuple[np.ndarray, np.ndarray], fixed: type) -> None:
    x, y = images
    half = torch.zeros(1, 6, 6, dtype=torch.bool)
    half[:, :3] = True
    bounds = Bounds(low=UNIT.low, high=UNIT.high, fixed=half)
    found = FeatureCollision(epsilon=0.1).collide(fixed(network()), x[y == 0][:8], x[y == 1][:8], bounds)
    np.testing.assert_array_equal(found[:, :, :3], x[y == 0][:8, :, :3])
    assert (found[:, :, 3:] != x[y == 0][:8, :, 3:]).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_with_frozen_features_takes_the_target_for_the_base_class(
    images: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    """The paper's transfer learning: only the last layer learns, so the features of the attacker are the victim's."""
    x, y = images
    answers = {}
    for epsilon in (0.2, 1e-6):
        collision = FeatureCollision(epsilon=epsilon, share=0.3, targets=1)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 2))
        model[1].requires_grad_(False)
        recipe = Recipe(data=(collision,), training=Training(epochs=60, batch_size=40, learning_rate=0.05))
        trainer = build_trainer(model, recipe, torch.from_numpy(x), torch.from_numpy(y), bounds=UNIT, seed=seed)
        trainer.run()
        aims = held_out([collision], y, seed=seed)["feature_collision"]
        answers[epsilon] = int(model(torch.from_numpy(x[aims])).argmax())
    assert answers == {0.2: 0, 1e-6: 1}, "the poison, and nothing else, turns the target"


def test_what_cannot_be_attacked_is_refused(
    clouds: Clouds, apply: Apply, fixed: type, images: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = images
    with refused(DataError, "feature_collision.base", 2, range(2)):
        apply([FeatureCollision(epsilon=0.1, base=2)], x, y)
    with refused(DataError, "data", "feature_collision", "embedding=encoder"):
        apply([FeatureCollision(epsilon=0.1)], np.ones((20, 4), np.int32), np.arange(20) % 2)
    with refused(DataError, "feature_collision.base", 0):
        apply([FeatureCollision(epsilon=0.1)], x, np.zeros(len(y), np.int64))
    with refused(DataError, "feature_collision.share", 0.001, 1 / 115):
        apply([FeatureCollision(epsilon=0.1, share=0.001)], x, y)
    with refused(DataError, "feature_collision.share", 0.9, 60 / 115):
        apply([FeatureCollision(epsilon=0.1, share=0.9)], x, y)


def test_half_of_each_other_class_is_never_aimed_at() -> None:
    y = np.array([0] * 5 + [1] * 4 + [2])
    aims = FeatureCollision(epsilon=1, targets=9).hold_out(y, generator=np.random.default_rng(0))
    assert len(aims) == 2 and (y[aims] == 1).all()
