"""Dropout with masks of our own does what torch's does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.training.masks import Masked

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "dropout": (lambda: nn.Dropout(0.25), (200, 10, 4), (200, 10, 4)),
    "in place": (lambda: nn.Dropout(0.25, inplace=True), (200, 10, 4), (200, 10, 4)),
    "dropout1d": (lambda: nn.Dropout1d(0.25), (200, 40, 4), (200, 40)),
    "dropout2d": (lambda: nn.Dropout2d(0.25), (200, 40, 3, 2), (200, 40)),
    "dropout3d": (lambda: nn.Dropout3d(0.25), (200, 40, 3, 2, 2), (200, 40)),
}
"""A layer, what it is given, and the shape of its mask."""


def masked(layer: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    with Masked(seeds.stream(seed, "layers")):
        found: Tensor = layer(x)
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_a_share_is_dropped_and_the_rest_scaled_up(name: str) -> None:
    make, shape, drawn = LAYERS[name]
    found = masked(make(), torch.ones(shape))
    one_each = found.reshape(*drawn, -1)
    assert bool((one_each == one_each[..., :1]).all())
    values = one_each[..., 0]
    torch.testing.assert_close(values.unique(), torch.tensor([0.0, 4 / 3]))
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / values.numel()) ** 0.5)


@pytest.mark.parametrize("name", LAYERS)
def test_masks_are_those_of_the_generator_and_each_call_has_its_own(name: str) -> None:
    make, shape, _ = LAYERS[name]
    layer = make()
    state = torch.get_rng_state()
    with Masked(seeds.stream(0, "layers")):
        first, second = layer(torch.ones(shape)), layer(torch.ones(shape))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, masked(layer, torch.ones(shape)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, masked(layer, torch.ones(shape), seed=1))


def attention(p: float, **settings: object) -> Callable[[Tensor], Tensor]:
    return lambda x: F.scaled_dot_product_attention(x, x.flip(-2), x + 1, dropout_p=p, **settings)


@pytest.mark.parametrize(
    "dropping",
    [
        lambda x: torch.dropout(x, 0.5, train=True),
        lambda x: torch.dropout_(x.clone(), 0.5, True),
        attention(0.5),
    ],
)
def test_torchs_own_functions_draw_from_the_generator_too(dropping: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for seed in (0, 0, 1):
        with Masked(seeds.stream(seed, "layers")):
            found.append(dropping(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.ones(6, 6).tril().bool()},
        {"attn_mask": torch.arange(36.0).view(6, 6) / 36},
    ],
)
def test_attention_is_torchs_but_for_the_mask(settings: dict[str, object]) -> None:
    x = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    least = 1e-30
    with Masked(seeds.stream(0, "layers")):
        found = attention(least, **settings)(x)
    torch.testing.assert_close(found, attention(0.0, **settings)(x))


def test_heads_that_share_keys_have_masks_of_their_own() -> None:
    q, k = torch.rand(2, 4, 6, 8), torch.rand(2, 2, 6, 8)
    with Masked(seeds.stream(0, "layers")):
        found = F.scaled_dot_product_attention(q, k, k, dropout_p=1e-30, enable_gqa=True)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, k, enable_gqa=True))


def test_in_place_means_in_place() -> None:
    x = torch.ones(50)
    assert masked(nn.Dropout(0.5, inplace=True), x) is x
    assert set(x.tolist()) == {0.0, 2.0}


def test_a_gradient_comes_back_through_the_mask() -> None:
    x = torch.ones(50, requires_grad=True)
    found = masked(nn.Dropout(0.5), x)
    found.sum().backward()
    assert torch.equal(x.grad, found.detach())


@pytest.mark.parametrize("layer", [nn.Dropout(0.5).eval(), nn.Dropout(0.0), nn.Dropout1d(0.5).eval()])
def test_what_drops_nothing_changes_nothing(layer: nn.Module) -> None:
    x = torch.randn(5, 4, 3)
    assert torch.equal(masked(layer, x), x)


def test_all_may_be_dropped() -> None:
    assert torch.equal(masked(nn.Dropout(1.0), torch.ones(7)), torch.zeros(7))


def test_functions_are_masked_as_layers_are() -> None:
    x = torch.ones(50)
    with Masked(seeds.stream(0, "layers")):
        found = F.dropout(input=x, p=0.5, training=True)
    assert torch.equal(found, masked(nn.Dropout(0.5), x))
