"""The first fully connected layer gives a single record back, and of several those that activate a unit alone."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.federated.inversion.analytic import first_layer, invert_first_layer
from assay.federated.inversion.observed import ObservedUpdate, change_of_round, gradient_of_step
from assay.models.cnn import CNN
from assay.recipes import Recipe
from assay.threats import Bounds
from assay.training.loop import Trainer
from tests.federated.inversion.conftest import SGD

Client = Callable[..., Trainer]


def inverted(trainer: Trainer, update: ObservedUpdate, digits: Dataset) -> torch.Tensor:
    layer = first_layer(trainer.model)
    assert layer is not None
    return invert_first_layer(layer, update, shape=digits.shape, bounds=digits.bounds)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_single_record_is_read_off_the_gradient(client: Client, digits: Dataset, normalised: bool) -> None:
    trainer = client(normalised=normalised)
    for row in range(5):
        (found,) = inverted(trainer, gradient_of_step(trainer, [row]), digits)
        assert (found - torch.from_numpy(digits.x[row])).abs().max() < 1e-5


def test_local_steps_on_one_record_hide_nothing(client: Client, digits: Dataset) -> None:
    trainer = client(records=1)
    update = change_of_round(trainer, SGD, 7)
    assert (update.steps, update.records) == (7, 1)
    (found,) = inverted(trainer, update, digits)
    assert (found - torch.from_numpy(digits.x[0])).abs().max() < 1e-5


def test_of_several_records_those_that_activate_a_unit_alone_come_out() -> None:
    # Unit k of the first layer answers to input k alone, and record k has no other input.
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
        layer.bias.fill_(-0.1)
    network = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(3, 2))
    x = torch.diag(torch.tensor([0.3, 0.6, 0.9]))
    loss = nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 0]))
    update = ObservedUpdate(gradients=torch.autograd.grad(loss, list(network.parameters())), records=3)
    first, bounds = first_layer(network), Bounds(low=torch.zeros(3), high=torch.ones(3))
    assert first is not None
    found = invert_first_layer(first, update, shape=(3,), bounds=bounds)
    assert torch.allclose(found[found.argmax(1).argsort()], x, atol=1e-6)


def test_without_a_gradient_nothing_is_made_up(client: Client, digits: Dataset) -> None:
    trainer = client()
    nothing = ObservedUpdate(gradients=tuple(torch.zeros_like(p) for p in trainer.parameters), records=1)
    assert len(inverted(trainer, nothing, digits)) == 0


@pytest.mark.parametrize(
    "network",
    [
        CNN().build((1, 8, 8), 10, seed=0),
        nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 2)),
    ],
)
def test_other_first_layers_cannot_be_inverted(network: nn.Module) -> None:
    assert first_layer(network) is None


def test_a_frozen_first_layer_sends_nothing(client: Client) -> None:
    network = client().model
    next(layer for layer in network.modules() if isinstance(layer, nn.Linear)).requires_grad_(False)
    assert first_layer(network) is None


def test_reconstructions_are_valid_records(client: Client, digits: Dataset) -> None:
    trainer = client(recipe=Recipe(training=SGD))
    update = gradient_of_step(trainer, [0])
    noise = torch.Generator().manual_seed(0)
    noised = tuple(g + 0.1 * torch.randn(g.shape, generator=noise) for g in update.gradients)
    found = inverted(trainer, ObservedUpdate(gradients=noised, records=1), digits)
    assert found.min() >= 0
    assert found.max() <= 1
