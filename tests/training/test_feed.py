"""Wherever records lie, training sees the same ones in the same order."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.treatment import Treatment
from assay.errors import IncompatibleRecipeError
from assay.recipes import Privacy, Recipe, Training
from assay.registry import register
from assay.seeds import Draw
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.feed import Decoded, InMemory

SETTINGS = Training(epochs=3, batch_size=16, learning_rate=0.01)


class Drawer:
    """Records behind a door: counts how often it is opened, and by whom."""

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, x: np.ndarray) -> None:
        self._x, self.shape = x, x.shape
        self.opened: list[int] = []
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.opened.append(len(rows))
        self.threads.add(threading.get_ident())
        return self._x[rows]

    def fingerprint(self) -> str:
        return "drawer"


@register("treatment")
class Shifted(Treatment):
    name: str = "shifted for a test"

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        return x + draw.uniform(x)


@pytest.fixture
def decoded(blobs: Any) -> tuple[Drawer, Decoded, Tensor, Tensor]:
    """Every other record of a hundred, behind a door; and the same records in memory."""
    x, y = blobs(100)
    rows = np.arange(0, 100, 2)
    drawer = Drawer(x.numpy())
    return drawer, Decoded(drawer, y.numpy(), rows, device=torch.device("cpu")), x[rows], y[rows]


def test_batches_come_as_they_were_asked_for(decoded: Any) -> None:
    _, feed, x, y = decoded
    asked = [np.array([3, 1]), np.array([49]), np.array([0, 0, 7])]
    for one, other in zip(feed.follow(asked), InMemory(x, y).follow(asked), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_no_more_than_one_batch_is_decoded_ahead(decoded: Any) -> None:
    drawer, feed, *_ = decoded
    following = feed.follow([np.arange(5)] * 6)
    next(following)
    next(following)
    list(feed.follow([]))
    assert len(drawer.opened) <= 3
    assert threading.get_ident() not in drawer.threads
    following.close()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(training=SETTINGS),
        Recipe(training=SETTINGS, privacy=Privacy(epsilon=8.0)),
        Recipe(training=SETTINGS, objective={"name": "pgd", "epsilon": 0.2, "steps": 2}),
    ],
    ids=["plain", "private", "adversarial"],
)
def test_weights_do_not_depend_on_where_the_records_lie(
    decoded: Any, network: Any, blob_bounds: Bounds, given_noise: float, recipe: Recipe
) -> None:
    _, feed, x, y = decoded
    models: list[nn.Module] = []
    for source in (x, feed):
        trainer = build_trainer(network(), recipe, source, y, bounds=blob_bounds, seed=3)
        trainer.run()
        models.append(trainer.model)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_treatments_of_all_records_at_once_refuse_records_behind_a_door(
    decoded: Any, network: Any, blob_bounds: Bounds
) -> None:
    _, feed, _, y = decoded
    with pytest.raises(IncompatibleRecipeError, match="streamed"):
        build_trainer(network(), Recipe(data=("label_flips",)), feed, y, bounds=blob_bounds, seed=3)


def test_augmentation_changes_what_training_sees_and_not_the_records(
    blobs: Any, network: Any, blob_bounds: Bounds
) -> None:
    x, y = blobs(50)
    before = x.clone()
    models = []
    for data in ((), ({"name": "shifted for a test"},), ({"name": "shifted for a test"},)):
        trainer = build_trainer(network(), Recipe(training=SETTINGS, data=data), x, y, bounds=blob_bounds, seed=3)
        trainer.run()
        assert trainer.treatment == {}
        models.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(x, before)
    assert not torch.equal(models[0], models[1])
    assert torch.equal(models[1], models[2])


def test_augmentation_goes_with_records_that_are_streamed_and_with_privacy(
    decoded: Any, network: Any, blob_bounds: Bounds, given_noise: float
) -> None:
    _, feed, _, y = decoded
    recipe = Recipe(training=SETTINGS, privacy=Privacy(epsilon=8.0), data=({"name": "shifted for a test"},))
    trainer = build_trainer(network(), recipe, feed, y, bounds=blob_bounds, seed=3)
    trainer.run()
    assert np.isfinite(trainer.losses).all()
