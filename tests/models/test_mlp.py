"""A model is a description that builds a fresh network."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.errors import SpecError
from assay.models.mlp import MLP
from assay.registry import build
from tests.mistakes import refused


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("shape", [(7,), (1, 4, 4), (3, 5)])
def test_records_of_any_shape_become_logits(shape: tuple[int, ...]) -> None:
    assert MLP().build(shape, 3, seed=0)(torch.zeros(4, *shape)).shape == (4, 3)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4, 2)])
def test_hidden_layers_have_the_asked_widths(hidden: tuple[int, ...]) -> None:
    layers = linear_layers(MLP(hidden=hidden).build((6,), 2, seed=0))
    assert [(layer.in_features, layer.out_features) for layer in layers] == list(
        zip((6, *hidden), (*hidden, 2), strict=True)
    )


def test_no_hidden_layer_is_logistic_regression() -> None:
    network = MLP(hidden=()).build((4,), 2, seed=0)
    (layer,) = linear_layers(network)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x), x @ layer.weight.T + layer.bias)


def test_the_output_is_the_composition_of_its_layers() -> None:
    network = MLP(hidden=(5, 3)).build((4,), 2, seed=0)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    expected = x
    for position, layer in enumerate(layers := linear_layers(network)):
        expected = expected @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if position < len(layers) - 1:
            expected = np.maximum(expected, 0)
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-6)


def test_first_weights_depend_on_the_seed_alone() -> None:
    one = MLP().build((6,), 2, seed=5)
    torch.manual_seed(123)
    again, other = MLP().build((6,), 2, seed=5), MLP().build((6,), 2, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    MLP().build((6,), 2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("hidden", [[0], [8, -1]])
def test_a_layer_without_units_is_refused(hidden: list[int]) -> None:
    with refused(SpecError, f"hidden.{len(hidden) - 1}", hidden[-1]):
        build("model", {"name": "mlp", "hidden": hidden})
