"""Networks whose weights lie in the order that processors read fastest."""

import pytest
import torch
from torch import Tensor, nn

from assay.models.cnn import CNN
from assay.models.layout import PairMaxima, channels_last, for_many


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


@pytest.mark.parametrize("side", [6, 7])
def test_maxima_of_the_copy_and_their_gradients_are_those_of_the_network(side: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Sequential(nn.MaxPool2d(2))).eval()
    other = channels_last(network)
    assert isinstance(other[2][0], PairMaxima)
    assert type(network[2][0]) is nn.MaxPool2d
    x = torch.randint(2, (5, 2, side, side)).float()  # many values are equal
    x[0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(other(x), network(x), equal_nan=True)
        assert torch.equal(PairMaxima()(x).nan_to_num(), nn.MaxPool2d(2)(x).nan_to_num())
    x = torch.randint(2, (5, 2, side, side)).float().requires_grad_()
    (own,) = torch.autograd.grad(PairMaxima()(x).sum(), x)
    (wanted,) = torch.autograd.grad(nn.MaxPool2d(2)(x).sum(), x)
    assert torch.equal(own, wanted)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2),
    ],
)
def test_other_poolings_stay(layer: nn.Module) -> None:
    assert not PairMaxima.replaces(layer)


class Tutorial(nn.Module):
    """A network as tutorials write it, which needs channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 3, 3), nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        units = self.convolution(x).relu()
        out: Tensor = self.head(units.view(units.size(0), -1))
        return out


def test_a_network_with_code_of_its_own_is_not_copied() -> None:
    model = Tutorial()
    assert for_many(model, torch.zeros(200, 1, 6, 6), 200) is model
    whole = nn.Sequential(model)
    assert for_many(whole, torch.zeros(200, 1, 6, 6), 200) is whole
