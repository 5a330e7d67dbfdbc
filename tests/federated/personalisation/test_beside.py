"""Ditto, APFL and fine-tuning: a model of a client's own beside the shared one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.recipes import Training
from assay.training.hooks.proximal_step import ProximalStep
from tests.federated.personalisation.conftest import ADAM, SGD, Case, close, equal


def alone(case: Case, client: int, *, training: Training = SGD, rounds: int = 3) -> dict[str, Tensor]:
    """What a client learns alone, its optimiser new in each round, with the batches of its own model."""
    network = case.network()
    for number in range(rounds):
        trainer = case.trainer(
            network, case.recipe(None, training=training), client, epochs=2 * rounds, stage="personal"
        )
        trainer.step = number * 2 * trainer.steps_per_epoch
        trainer.run(2)
    return network.state_dict()


@pytest.mark.parametrize("training", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    "settings", [{"name": "ditto", "strength": 0.0}, {"name": "apfl", "alpha": 1.0, "adaptive": False}]
)
def test_without_the_others_it_is_what_the_client_learns_alone(
    settings: dict[str, Any], training: Training, case: Case
) -> None:
    found = case.run(case.recipe(settings, training=training))
    for client in (1, 2, 3):
        close(found.personal[client], alone(case, client, training=training), atol=1e-6)


@pytest.mark.parametrize("training", [SGD, ADAM], ids=["sgd", "adam"])
def test_ditto_pulled_without_limit_is_what_the_client_was_sent_last(training: Training, case: Case) -> None:
    bound = case.run(case.recipe({"name": "ditto", "strength": 1e12}, training=training, rounds=3))
    before = case.run(case.recipe(None, training=training, rounds=2))
    for client in (1, 2, 3):
        close(bound.personal[client], before.weights, atol=1e-6)


def test_apfl_without_a_share_of_its_own_is_the_shared_model(case: Case) -> None:
    found = case.run(case.recipe({"name": "apfl", "alpha": 0.0, "adaptive": False}))
    assert all(equal(own, found.weights) for own in found.personal.values())


@pytest.mark.parametrize("name", ["ditto", "apfl", "fine_tuning"])
def test_the_shared_model_is_that_of_the_recipe_without_personal_models(name: str, case: Case) -> None:
    assert equal(case.run(case.recipe(name)).weights, case.run(case.recipe(None)).weights)


@pytest.mark.parametrize("strength", [0.5, 50.0])
@pytest.mark.parametrize("kind", ["plain", "momentum", "adam"])
def test_ditto_rests_where_the_gradients_of_loss_and_pull_cancel(kind: str, strength: float) -> None:
    """f(w) = |w - 1|⁴ / 4, pulled towards -1."""
    weight = nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))
    optimizer: torch.optim.Optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.6 * (kind == "momentum"))
    if kind == "adam":
        optimizer = torch.optim.Adam([weight], lr=0.03)
    anchor = torch.full((2,), -1.0, dtype=torch.float64)
    pull, trainer = ProximalStep([anchor], strength=strength), SimpleNamespace(parameters=[weight], optimizer=optimizer)
    for _ in range(600):
        optimizer.zero_grad()
        ((weight - 1) ** 4 / 4).sum().backward()
        optimizer.step()
        pull.after_step(trainer)  # type: ignore[arg-type]
    rest = (weight.detach() - 1) ** 3 + strength * (weight.detach() - anchor)
    assert float(rest.abs().max()) < 1e-3 * strength
    assert float((weight.detach() - anchor).abs().min()) > 0.1


def by_hand(case: Case, client: int, *, rounds: int, alpha: float, rate: float) -> tuple[dict[str, Tensor], float]:
    """APFL of a client written out for plain SGD: v against a fixed w, α at the first step of each round."""
    recipe = case.recipe(None, training=PLAIN)
    own = [p.detach().clone() for p in case.network().parameters()]
    rows = case.parts[client - 1]
    x, y = torch.from_numpy(case.x[rows]), torch.from_numpy(case.y[rows])
    for number in range(rounds):
        sent = case.network()
        if number:
            sent.load_state_dict(dict(case.run(case.recipe(None, training=PLAIN, rounds=number)).weights))
        shared = [p.detach() for p in sent.parameters()]
        mixed = case.network()
        order = case.trainer(case.network(), recipe, client, epochs=2 * rounds, stage="personal")
        for step in range(2 * order.steps_per_epoch):
            batch = order._update.batch(number * 2 * order.steps_per_epoch + step)
            with torch.no_grad():
                for p, v, w in zip(mixed.parameters(), own, shared, strict=True):
                    p.copy_(alpha * v + (1 - alpha) * w)
            loss = nn.functional.cross_entropy(mixed(x[batch]), y[batch])
            gradients = torch.autograd.grad(loss, list(mixed.parameters()))
            slope = sum(float(((v - w) * g).sum()) for v, w, g in zip(own, shared, gradients, strict=True))
            own = [v - PLAIN.learning_rate * alpha * g for v, g in zip(own, gradients, strict=True)]
            if step == 0:
                alpha = min(1.0, max(0.0, alpha - rate * slope))
    final = case.run(case.recipe(None, training=PLAIN, rounds=rounds)).weights
    named = [name for name, _ in case.network().named_parameters()]
    return {name: alpha * v + (1 - alpha) * final[name] for name, v in zip(named, own, strict=True)}, alpha


PLAIN = Training(batch_size=8, optimizer="sgd", learning_rate=0.1, momentum=0.0)


def test_the_model_of_apfl_is_the_mixture_with_its_own_share(case: Case) -> None:
    settings = {"name": "apfl", "alpha": 0.4, "alpha_learning_rate": 2.0}
    found = case.run(case.recipe(settings, training=PLAIN))
    for client in (1, 3):
        expected, alpha = by_hand(case, client, rounds=3, alpha=0.4, rate=2.0)
        assert abs(alpha - 0.4) > 1e-3
        close(found.personal[client], expected, atol=1e-6)


def test_fine_tuning_starts_at_the_final_shared_model_and_goes_on_with_the_clients_batches(case: Case) -> None:
    training = SGD.model_copy(update={"schedule": "cosine"})
    found = case.run(case.recipe({"name": "fine_tuning", "epochs": 2}, training=training))
    for client in (1, 2, 3):
        network = case.network()
        network.load_state_dict(dict(found.weights))
        trainer = case.trainer(network, case.recipe(None, training=training), client, epochs=8)
        trainer.step = 6 * trainer.steps_per_epoch
        trainer.run(2)
        assert equal(found.personal[client], network.state_dict())
    assert found.client_seconds > sum(each.client_seconds for each in found.record.rounds)


def test_clients_that_were_never_drawn_are_fine_tuned_too(case: Case) -> None:
    found = case.run(case.recipe("fine_tuning", rounds=1, participation="fraction", share=0.3))
    assert all(not equal(own, found.weights) for own in found.personal.values())
