"""The convolutional network fits images and signals, trains privately, and can be bounded and explained exactly."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.bounds.interval import interval
from assay.data.base import Form, Tokens
from assay.errors import SpecError
from assay.models.cnn import CNN
from assay.privacy.clipping import PerRecordGradients
from assay.registry import build
from tests.explaining import deep_shap, integrated_gradients
from tests.mistakes import refused

SHAPES = [(1, 8, 8), (3, 32, 32), (2, 7, 9), (1, 50), (2, 31)]
SMALL = CNN(channels=(4, 6), hidden=5)
VARIANTS = {
    "image": (SMALL, (1, 8, 8)),
    "signal": (SMALL, (2, 21)),
    "pooled image": (SMALL.model_copy(update={"pool": "average"}), (1, 8, 8)),
    "pooled signal": (SMALL.model_copy(update={"pool": "average", "kernel": 7}), (2, 21)),
}
every_variant = pytest.mark.parametrize(("architecture", "shape"), VARIANTS.values(), ids=VARIANTS)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [(4,), (4, 6, 8)])
@pytest.mark.parametrize("pool", ["none", "average"])
def test_any_image_or_signal_becomes_logits(shape: tuple[int, ...], channels: tuple[int, ...], pool: str) -> None:
    model = CNN(channels=channels, hidden=5, pool=pool, dropout=0.3).build(shape, 3, seed=0)
    assert model(draw(6, *shape)).shape == (6, 3)


def test_records_that_are_neither_are_refused() -> None:
    with refused(SpecError, "model", "cnn", ("mlp",)):
        CNN().build((30,), 2, seed=0)


def test_sentences_are_refused() -> None:
    tokens = Tokens(words=("", "?", "a"), vectors=np.eye(3, dtype=np.float32), trainable=False)
    with refused(SpecError, "model", "cnn", ("text_cnn", "lstm")):
        CNN().build_for(Form(shape=(9,), classes=2, modality="text", tokens=tokens), seed=0)


@pytest.mark.parametrize(("shape", "width"), [((1, 8, 8), 3), ((1, 50), 5)])
def test_a_kernel_is_as_wide_as_asked_or_fits_the_records(shape: tuple[int, ...], width: int) -> None:
    def kernel(architecture: CNN) -> int:
        first = architecture.build(shape, 2, seed=0)[0]  # type: ignore[index]
        assert isinstance(first, nn.Conv1d | nn.Conv2d)
        return first.kernel_size[0]

    assert kernel(CNN()) == width
    assert kernel(CNN(kernel=9)) == 9


def test_a_kernel_without_a_centre_is_refused() -> None:
    with refused(SpecError, "kernel", 4):
        build("model", {"name": "cnn", "kernel": 4})


def test_without_its_options_it_has_the_layers_that_checkpoints_name() -> None:
    names = list(CNN().build((1, 8, 8), 2, seed=0).state_dict())
    assert names == [f"{place}.{kind}" for place in (0, 2, 5, 7) for kind in ("weight", "bias")]


def test_pooling_forgets_where_something_was() -> None:
    model = CNN(channels=(4,), pool="average").build((1, 40), 2, seed=0)
    x = torch.zeros(2, 1, 40)
    x[0, 0, 10:13], x[1, 0, 25:28] = 1.0, 1.0
    early, late = model(x)
    torch.testing.assert_close(early, late)
    early, late = CNN(channels=(4,)).build((1, 40), 2, seed=0)(x)
    assert (early - late).abs().max() > 1e-3


def test_dropout_acts_in_training_only() -> None:
    model, x = CNN(dropout=0.5).build((1, 8, 8), 2, seed=0), draw(6, 1, 8, 8)
    layers = list(model.children())
    linear = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    assert all(isinstance(layers[place - 1], nn.Dropout) for place in linear)
    torch.manual_seed(0)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@every_variant
def test_bounds_hold_what_the_network_answers(architecture: CNN, shape: tuple[int, ...]) -> None:
    model = architecture.build(shape, 10, seed=0)
    x = draw(5, *shape)
    low, high = interval(model, x - 0.1, x + 0.1)
    for seed in range(20):
        answer = model(x + 0.2 * draw(5, *shape, seed=seed) - 0.1)
        assert ((answer >= low - 1e-5) & (answer <= high + 1e-5)).all()


@every_variant
def test_it_has_gradients_record_by_record(architecture: CNN, shape: tuple[int, ...]) -> None:
    model = architecture.build(shape, 10, seed=0)
    gradients = PerRecordGradients(model)
    x = draw(4, *shape)
    whole = gradients.clipped_sum(model(x).square().sum(1), 1e9)
    gradients.remove()
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for ours, theirs in zip(whole, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@every_variant
def test_explanations_add_up(architecture: CNN, shape: tuple[int, ...]) -> None:
    model, x = architecture.build(shape, 3, seed=0).eval(), draw(4, *shape)
    target = torch.tensor([0, 1, 2, 0])
    # In float64: the change of an untrained network is so small that float32 would round it.
    model, x, background = model.double(), x.double(), draw(6, *shape, seed=1).double()
    assert deep_shap(model, x, target, background=background).error.max() < 1e-6
    assert integrated_gradients(model, x, target, baseline=torch.zeros(1).double(), points=243).error.max() < 0.02
