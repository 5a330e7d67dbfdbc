"""The proximal term pulls towards the anchored weights, after clipping and noise, with the gradient of FedProx."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.proximal_term import ProximalTerm
from assay.training.loop import Trainer

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]

SGD = Training(epochs=2, batch_size=16, optimizer="sgd", momentum=0.0, learning_rate=0.1)


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Callable[..., Trainer]:
    def fresh(strength: float | None = None, **choices: object) -> Trainer:
        term = ProximalTerm()
        hooks = [] if strength is None else [term]
        recipe = Recipe(**{"training": SGD, **choices})
        trainer = build_trainer(network(), recipe, *blobs(50), bounds=blob_bounds, seed=4, hooks=hooks)
        if strength is not None:
            term.anchor([torch.ones_like(p) for p in trainer.parameters], strength=strength)
        return trainer

    return fresh


def test_it_adds_the_gradient_of_half_mu_times_the_squared_distance() -> None:
    weight, anchored = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4).double()
    (expected,) = torch.autograd.grad(0.7 / 2 * (weight - anchored).square().sum(), weight)
    term = ProximalTerm()
    term.anchor([anchored], strength=0.7)
    given = torch.randn(3, 4).double()
    (found,) = term.gradients(5, [weight.detach()], [given])
    torch.testing.assert_close(found, given + expected, rtol=0, atol=1e-12)


def test_the_anchor_stays_where_it_was_while_the_weights_move() -> None:
    weight, term = torch.zeros(2), ProximalTerm()
    term.anchor([weight], strength=1.0)
    weight += 3
    assert term.gradients(0, [weight], [torch.zeros(2)])[0].tolist() == [3, 3]


def test_without_a_strength_or_an_anchor_it_changes_nothing(make: Callable[..., Trainer]) -> None:
    given = [torch.ones(2)]
    assert ProximalTerm().gradients(0, [torch.zeros(2)], given) is given
    trainers = [make(), make(0.0)]
    for trainer in trainers:
        trainer.run()
    assert torch.equal(*map(weights, trainers))


@pytest.mark.parametrize("choices", [{}, {"privacy": Privacy(epsilon=8.0)}], ids=["plain", "private"])
def test_a_stronger_pull_leads_nearer_to_the_anchor(make: Callable[..., Trainer], choices: dict[str, object]) -> None:
    distances = []
    for strength in (0.0, 1.0, 5.0):
        trainer = make(strength, **choices)
        trainer.run()
        distances.append(float((weights(trainer) - 1).norm()))
    assert distances[0] > 1.5 * distances[1] > 1.5 * distances[2]


def test_it_comes_after_clipping_and_noise_and_costs_nothing(make: Callable[..., Trainer]) -> None:
    """One step differs by the pull alone, however long it is beside the clipping norm."""
    private = {"privacy": Privacy(epsilon=8.0), "training": SGD.model_copy(update={"batch_size": 50, "epochs": 1})}
    free, pulled = make(**private), make(100.0, **private)
    first = weights(free)
    for trainer in (free, pulled):
        trainer.run()
    torch.testing.assert_close(weights(pulled) - weights(free), -0.1 * 100.0 * (first - 1), rtol=0, atol=1e-5)
    assert pulled.mechanism == free.mechanism


def test_a_restored_term_pulls_as_before() -> None:
    first, second = ProximalTerm(), ProximalTerm()
    first.anchor([torch.ones(2), torch.full((3,), 2.0)], strength=0.5)
    second.restore(*first.state())
    given = [torch.zeros(2), torch.zeros(3)]
    pulls = [term.gradients(0, given, given) for term in (first, second)]
    assert all(torch.equal(one, other) for one, other in zip(*pulls, strict=True))
    assert [pull.tolist() for pull in pulls[1]] == [[-0.5] * 2, [-1.0] * 3]
