"""Every way of training gives on a GPU what it gives on the CPU, and the same bits whenever it is repeated."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Form, Tokens
from assay.models.lstm import LSTM
from assay.models.resnet import Basic, NormLayer, ResNet, Stem
from assay.models.text_cnn import TextCNN
from assay.recipes import Recipe
from assay.registry import names
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.feed import Decoded
from assay.training.loop import Trainer
from tests.gpu.devices import (
    ARCHITECTURES,
    CLASSES,
    CPU,
    DEVICE,
    UNIT,
    assert_alike,
    assert_same_bits,
    network,
    on_the_cpu,
    records,
    trained,
)

RECIPES: dict[str, dict[str, Any]] = {
    "standard": {},
    "momentum": {"training": {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "averaging": 0.9}},
    "in pieces": {"training": {"records_at_once": 20}},
    "pgd": {"objective": {"name": "pgd", "epsilon": 0.1, "steps": 3}},
    "pgd, l2": {"objective": {"name": "pgd", "epsilon": 0.5, "steps": 3, "norm": "l2"}},
    "trades": {"objective": {"name": "trades", "epsilon": 0.1, "steps": 3}},
    "fast": {"objective": {"name": "fast", "epsilon": 0.1, "watch": {"records": 32, "steps": 3}}},
    "gaussian noise": {"objective": {"name": "gaussian_noise", "sigma": 0.25}},
    "interval bounds": {"objective": {"name": "interval_bounds", "epsilon": 0.05, "warm_up": 0.0, "ramp": 0.5}},
    "distillation": {"objective": {"name": "distillation", "temperature": 5.0}},
    "early stopping": {"training": {"early_stopping": {"epsilon": 0.05, "steps": 3}}},
    "label flips": {"data": [{"name": "label_flips", "share": 0.1}]},
    "reweighting": {"data": ["robust_reweighting"]},
    "sanitation": {"data": [{"name": "loss_sanitation", "share": 0.1, "epochs": 1}]},
    "private": {"privacy": {"epsilon": 8}},
    "private, per layer": {"privacy": {"epsilon": 8, "clipping": "per_layer"}},
    "private, automatic": {"privacy": {"epsilon": 8, "clipping": "automatic"}},
    "private, pgd": {"privacy": {"epsilon": 8}, "objective": {"name": "pgd", "epsilon": 0.1, "steps": 3}},
    "private, trades": {"privacy": {"epsilon": 8}, "objective": {"name": "trades", "epsilon": 0.1, "steps": 3}},
    "private, in pieces": {"privacy": {"epsilon": 8}, "training": {"records_at_once": 20}},
}
OF_IMAGES: dict[str, dict[str, Any]] = {
    "augmented": {"data": ["flip", {"name": "crop", "pixels": 1}]},
    "private, augmented": {
        "privacy": {"epsilon": 8, "augmentations": 2},
        "data": ["flip", {"name": "crop", "pixels": 1}],
    },
    "backdoor": {"data": [{"name": "backdoor", "target": 0}]},
    "spectral signatures": {"data": [{"name": "spectral_signatures", "share": 0.1}]},
}
OF_SIGNALS: dict[str, dict[str, Any]] = {"jitter": {"data": ["jitter"]}}
UNBOUNDED = {("lstm", "interval bounds")}
CASES = [
    *((model, recipe) for model in ARCHITECTURES for recipe in RECIPES if (model, recipe) not in UNBOUNDED),
    *(("cnn", recipe) for recipe in OF_IMAGES),
    *(("lstm", recipe) for recipe in OF_SIGNALS),
]
RUNS = ((DEVICE, torch.float64), (CPU, torch.float64), (DEVICE, torch.float32), (DEVICE, torch.float32))
"""The first two give the same weights but for rounding, the last two the same bits."""
every_case = pytest.mark.parametrize(("model", "recipe"), CASES)


def recipe_of(name: str) -> Recipe:
    said = {**RECIPES, **OF_IMAGES, **OF_SIGNALS}[name]
    training = {"epochs": 2, "batch_size": 48, "learning_rate": 0.01, **said.get("training", {})}
    return Recipe.model_validate({**said, "training": training})


def trainer(model: str, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> Trainer:
    x, y = (one.to(device) for one in records(model, 192))
    held, labels = (one.to(device) for one in records(model, 64, start=192))
    return build_trainer(
        network(model).to(device, dtype),
        recipe,
        x.to(dtype),
        y,
        bounds=UNIT,
        seed=5,
        classes=CLASSES,
        teacher=trained(model).to(dtype) if recipe.objective.name == "distillation" else None,
        validation=(held.to(dtype), labels),
    )


def run(model: str, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], Trainer]:
    one = trainer(model, recipe, device, dtype)
    one.run()
    one.close()
    return on_the_cpu(one.model.state_dict()), one


def test_every_objective_is_in_the_table() -> None:
    assert {recipe_of(name).objective.name for name in RECIPES} == set(names("objective"))


@every_case
def test_weights_are_those_of_the_cpu(model: str, recipe: str) -> None:
    """In float64, where no rounding can turn the sign of a step."""
    (ours, there), (theirs, here) = (run(model, recipe_of(recipe), device, torch.float64) for device in (DEVICE, CPU))
    assert_alike(ours, theirs, within=1e-6)
    assert there.losses == pytest.approx(here.losses, rel=1e-6)
    assert there.treatment == here.treatment
    assert there.figures == here.figures
    assert there.notes == here.notes


@every_case
def test_a_training_that_is_repeated_gives_the_same_bits(model: str, recipe: str) -> None:
    (one, _), (again, _) = (run(model, recipe_of(recipe), DEVICE, torch.float32) for _ in range(2))
    assert_same_bits(one, again)


@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize("recipe", ["standard", "private", "momentum", "fast"])
def test_a_training_that_begins_on_one_device_goes_on_on_the_other(model: str, recipe: str) -> None:
    (theirs, _) = run(model, recipe_of(recipe), CPU, torch.float64)
    for first, second in ((DEVICE, CPU), (CPU, DEVICE)):
        begun = trainer(model, recipe_of(recipe), first, torch.float64)
        begun.run(1)
        ends = trainer(model, recipe_of(recipe), second, torch.float64)
        restore_trainer(ends, trainer_state(begun))
        ends.run()
        assert all(weight.device.type == second.type for weight in ends.model.parameters())
        assert_alike(on_the_cpu(ends.model.state_dict()), theirs, within=1e-6)


@pytest.mark.parametrize("recipe", ["standard", "private", "private, pgd"])
def test_what_nobody_may_repeat_is_drawn_anew(recipe: str) -> None:
    asked = recipe_of(recipe)
    if asked.privacy is not None:
        asked = asked.model_copy(update={"privacy": asked.privacy.model_copy(update={"noise": "entropy"})})
    model = LSTM(hidden=8, dropout=0.3, channels_first=True).build((8, 8), CLASSES, seed=0)
    x, y = (one.to(DEVICE) for one in records("lstm", 96))
    found = []
    for _ in range(2):
        one = build_trainer(copy.deepcopy(model).to(DEVICE), asked, x, y, bounds=UNIT, seed=0, classes=CLASSES)
        one.run()
        found.append(torch.cat([weight.detach().flatten() for weight in one.model.parameters()]))
        assert bool(found[-1].isfinite().all())
    assert torch.equal(*found) is (asked.privacy is None)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize(("norm", "recipe"), [("batch", "standard"), ("group", "standard"), ("group", "private")])
def test_a_residual_network_learns_the_same_twice(stem: Stem, norm: NormLayer, recipe: str) -> None:
    """As on the CPU in float64; in float32 the same bits."""
    x, y = records("cnn", 48)
    x = x.repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = []
    for device, dtype in RUNS:
        torch.manual_seed(0)
        model = ResNet(Basic, (1, 1, 1, 1), 1, CLASSES, norm=norm, stem=stem, width=8).to(device, dtype)
        given = x.to(device, dtype), y.to(device)
        one = build_trainer(model, recipe_of(recipe), *given, bounds=UNIT, seed=0, classes=CLASSES)
        one.run(1)
        found.append(on_the_cpu(model.state_dict()))
    assert_alike(found[0], found[1], within=1e-6)
    assert_same_bits(found[2], found[3])


def words(*, trainable: bool) -> tuple[Form, Tensor, Tensor]:
    """Sentences of up to nine words, the first of which tells the class."""
    draw = np.random.default_rng(0)
    vectors = np.concatenate([np.zeros((1, 6)), draw.normal(size=(30, 6))]).astype(np.float32)
    x = draw.integers(1, 31, (96, 9))
    x[np.arange(9) >= draw.integers(3, 10, (96, 1))] = 0
    tokens = Tokens(words=tuple(f"word {place}" for place in range(31)), vectors=vectors, trainable=trainable)
    form = Form(shape=(9,), classes=2, modality="text", tokens=tokens)
    return form, torch.from_numpy(x), torch.from_numpy((x[:, 0] > 15).astype(np.int64))


@pytest.mark.parametrize("architecture", [LSTM(hidden=6, dropout=0.0), TextCNN(channels=6, dropout=0.0)])
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("recipe", ["standard", "pgd", "trades", "private", "private, pgd"])
def test_words_are_learnt_as_on_the_cpu(architecture: Any, trainable: bool, recipe: str) -> None:
    form, x, y = words(trainable=trainable)
    bounds, found = Bounds(low=torch.tensor(0.0), high=torch.tensor(31.0)), []
    for device, dtype in RUNS:
        model = architecture.build_for(form, seed=0).to(device, dtype)
        one = build_trainer(model, recipe_of(recipe), x.to(device), y.to(device), bounds=bounds, seed=0, classes=2)
        one.run()
        found.append(on_the_cpu(model.state_dict()))
    assert_alike(found[0], found[1], within=1e-6)
    assert_same_bits(found[2], found[3])


class Images:
    """Records that are decoded as they are asked for."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x
        self.shape = x.shape

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._x[rows]


def test_records_that_are_decoded_as_they_are_needed_arrive_on_the_device() -> None:
    x, y = records("cnn", 96)
    feed = Decoded(Images(x.numpy()), y.numpy(), np.arange(96), device=DEVICE)  # type: ignore[arg-type]
    found = []
    for given in (feed, x.to(DEVICE)):
        model: nn.Module = network("cnn").to(DEVICE)
        one = build_trainer(model, recipe_of("standard"), given, y.to(DEVICE), bounds=UNIT, seed=0, classes=CLASSES)
        one.run()
        found.append(on_the_cpu(model.state_dict()))
    assert_same_bits(*found)
