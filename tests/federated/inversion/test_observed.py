"""What leaves a client is what its trainer computes, noise and clipping included; the server decodes the rest."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.errors import UserError
from assay.federated.inversion.observed import ObservedUpdate, change_of_round, gradient_of_step
from assay.recipes import Privacy, Recipe
from assay.training.loop import Trainer
from tests.federated.inversion.conftest import SGD

Client = Callable[..., Trainer]


def flat(update: ObservedUpdate) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in update.gradients])


def test_the_gradient_of_a_step_is_that_of_the_mean_loss(client: Client, digits: Dataset) -> None:
    trainer, rows = client("cnn"), [3, 1, 4]
    loss = nn.functional.cross_entropy(
        trainer.model(torch.from_numpy(digits.x[rows])), torch.from_numpy(digits.y[rows])
    )
    expected = torch.autograd.grad(loss, trainer.parameters)
    update = gradient_of_step(trainer, rows)
    assert (update.records, update.steps, trainer.step) == (3, 1, 0)
    for own, other in zip(update.gradients, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_one_step_of_sgd_changes_the_weights_by_its_gradient(client: Client, digits: Dataset) -> None:
    trainer = client(records=8)
    gradient = gradient_of_step(trainer, range(8))
    change = change_of_round(trainer, SGD, 1)
    assert change.steps == 1
    assert torch.allclose(flat(change), flat(gradient), atol=1e-5)


@pytest.mark.usefixtures("given_noise")
def test_a_private_client_sends_a_clipped_gradient_with_fresh_noise(client: Client) -> None:
    private = client(recipe=Recipe(training=SGD, privacy=Privacy(epsilon=1, delta=1e-3, max_grad_norm=0.01)))
    plain = flat(gradient_of_step(client(), [0]))
    sent = torch.stack([flat(gradient_of_step(private, [0], draw=draw)) for draw in range(20)])
    # Expected batch of 8, noise multiplier 1.3, clipping norm 0.01.
    signal, noise = 0.01 / 8 * plain / plain.norm(), 1.3 * 0.01 / 8
    assert (sent - signal).std() == pytest.approx(noise, rel=0.03)
    assert ((sent - signal) @ (signal / signal.norm())).mean() == pytest.approx(0, abs=4 * noise / 20**0.5)
    assert torch.corrcoef(sent - signal)[0, 1:].abs().max() < 0.15


def test_the_server_sees_what_it_decodes(client: Client) -> None:
    update = gradient_of_step(client(), [0])
    halved = update.decoded(lambda sent: sent / 2)
    assert torch.equal(flat(halved), flat(update) / 2)
    assert [g.shape for g in halved.gradients] == [g.shape for g in update.gradients]
    with pytest.raises(UserError, match="its own shape"):
        update.decoded(lambda sent: sent[1:])
    with pytest.raises(UserError, match="NaN or infinity"):
        update.decoded(lambda sent: sent / 0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_update_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="gradient 1 of the update holds NaN or infinity"):
        ObservedUpdate(gradients=(torch.ones(2), torch.tensor([1.0, value])), records=1)


def test_an_update_of_nobody_is_refused() -> None:
    with pytest.raises(UserError, match="tells nothing"):
        ObservedUpdate(gradients=(torch.ones(2),), records=0)
