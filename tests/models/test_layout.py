"""Networks whose weights lie in the order that processors read fastest."""

import pytest
import torch
from torch import nn

from assay.models.cnn import CNN
from assay.models.layout import channels_last, for_many


@pytest.fixture
def network() -> nn.Module:
    return CNN(channels=(4, 8)).build((3, 16, 16), 2, seed=0).eval()


def test_a_copy_gives_the_same_answers_and_leaves_the_network(network: nn.Module) -> None:
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    other = channels_last(network)
    assert other is not network
    torch.testing.assert_close(other(x), network(x), rtol=1e-5, atol=1e-5)
    own = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(weight.is_contiguous() for weight in own)


def test_only_what_pays_is_copied(network: nn.Module) -> None:
    images, table = torch.zeros(2, 3, 16, 16), torch.zeros(2, 6)
    assert for_many(network, images, 127) is network
    assert for_many(network, images, 128) is not network
    groups = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    assert for_many(groups, images, 10_000) is groups
    linear = nn.Linear(6, 2)
    assert for_many(linear, table, 10_000) is linear
    assert channels_last(linear) is linear


def test_a_network_with_hooks_is_no_copy(network: nn.Module) -> None:
    handle = next(network.children()).register_forward_hook(lambda *_: None)
    assert channels_last(network) is network
    handle.remove()
    assert channels_last(network) is not network
