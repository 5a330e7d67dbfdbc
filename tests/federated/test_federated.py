"""Federated training: the one loop at every client, and an average that no host can change."""

import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from assay.federated.lead import Federated, train_federated
from torch import Tensor, nn

from assay.data.partition import partition
from assay.errors import FederationError
from assay.executors import Client, Host, LocalExecutor, LocalHost
from assay.federated.client import ClientPlan
from assay.federated.grid import ExecutorGrid
from assay.objectives.fast import FastAdversarial
from assay.privacy.accounting import Mechanism
from assay.recipes import Federation, Privacy, Recipe, Training
from assay.seeds import client_seed
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.probe import Probe

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Lead = Callable[..., Federated]

SGD = Training(batch_size=16, optimizer="sgd", learning_rate=0.05, schedule="cosine")
ADAM = Training(batch_size=16, learning_rate=0.01)
PGD = {"name": "pgd", "epsilon": 0.3, "steps": 3}
RECIPES = {
    "standard": Recipe(training=SGD),
    "adam": Recipe(training=ADAM),
    "adversarial": Recipe(objective=PGD, training=SGD),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=ADAM),
    "private adversarial": Recipe(objective=PGD, privacy=Privacy(epsilon=8.0), training=SGD),
}


def federated(name: str, **settings: Any) -> Recipe:
    given = {"clients": 3, "rounds": 2, "local_epochs": 2, **settings}
    return RECIPES[name].model_copy(update={"federation": Federation(**given)})


@pytest.fixture
def lead(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Lead:
    """Trains a federated recipe on 60 records: ``lead(recipe, executor=..., parts=...)``."""

    def run(recipe: Recipe, **given: Any) -> Federated:
        x, y = (tensor.numpy() for tensor in blobs(60))
        assert recipe.federation is not None
        settings: dict[str, Any] = {
            "parts": partition(np.arange(60), y, recipe.federation, seed=7),
            "bounds": blob_bounds,
            "classes": 2,
            "seed": 7,
            "threads": 1,
            "executor": LocalExecutor(),
        }
        return train_federated(network, recipe, x, y, **settings | given)

    return run


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Recorded(LocalExecutor):
    """Keeps the plans of the clients it hosts, as they arrive at a worker."""

    def __init__(self) -> None:
        self.plans: dict[int, ClientPlan] = {}

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        self.plans = {number: make.__self__ for number, make in clients.items()}  # type: ignore[attr-defined]
        return super().host(clients)


class Overheard(LocalExecutor):
    """Keeps what was sent to each client and what came back, round by round."""

    def __init__(self) -> None:
        self.sent: list[dict[int, Mapping[str, Tensor]]] = []
        self.returned: list[dict[int, Mapping[str, Tensor]]] = []

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        executor = self

        class OverheardHost(LocalHost):
            def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
                executor.sent.append({n: m.content["arrays"].to_torch_state_dict() for n, m in requests.items()})
                found = super().call(requests, timeout)
                executor.returned.append({n: m.content["arrays"].to_torch_state_dict() for n, m in found.items()})
                return found

        return OverheardHost({number: make() for number, make in clients.items()})


class Backwards(LocalExecutor):
    """Hosts clients, and returns their replies, in the opposite order."""

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        class BackwardsHost(LocalHost):
            def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
                return super().call(dict(reversed(requests.items())), timeout)

        return BackwardsHost({number: make() for number, make in reversed(clients.items())})


class Replies(LocalExecutor):
    """Puts given replies in the place of the clients' own; None loses a client's reply."""

    def __init__(self, replies: dict[int, Any]) -> None:
        self.replies = replies
        self.closed = False
        self.timeouts: list[float] = []

    def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
        executor = self

        class FailingHost(LocalHost):
            def call(self, requests: Mapping[int, Any], timeout: float) -> dict[int, Any]:
                executor.timeouts += [timeout] if requests else []
                found = super().call(requests, timeout) | executor.replies
                return {number: reply for number, reply in found.items() if reply is not None}

            def close(self) -> None:
                executor.closed = True
                super().close()

        return FailingHost({number: make() for number, make in clients.items()})


def test_a_client_that_overfits_goes_back_to_what_it_was_sent(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: dict[int, int] = {20: 0, 40: 0}

    def told(probe: Probe, model: nn.Module, attack: object, *, rollbacks: int) -> float:
        """In order, but for the second look of the client with twenty records."""
        looks[len(probe)] += 1
        return 0.1 if len(probe) == 20 and looks[20] == 4 else 0.9

    monkeypatch.setattr(Probe, "balanced_accuracy", told)
    recipe = federated("standard", clients=2, rounds=3, local_epochs=1)
    overheard = Overheard()
    fast = recipe.model_copy(update={"objective": FastAdversarial(epsilon=0.3)})
    lead(fast, executor=overheard, parts=[np.arange(20), np.arange(20, 60)])
    said = [(sent, back) for sent, back in zip(overheard.sent, overheard.returned, strict=True) if sent]
    went_back = [[same(sent[number], back[number]) for number in (1, 2)] for sent, back in said]
    assert went_back == [[False, False], [True, False], [False, False]]


@pytest.mark.parametrize("name", RECIPES)
def test_one_client_equals_central_training_bit_for_bit(
    name: str, lead: Lead, blobs: Blobs, network: Network, blob_bounds: Bounds
) -> None:
    alone = lead(federated(name, clients=1, rounds=3), parts=[np.arange(60)])
    x, y = blobs(60)
    central = build_trainer(network(), RECIPES[name], x, y, bounds=blob_bounds, seed=client_seed(7, 1), epochs=6)
    central.run()
    assert same(alone.weights, central.model.state_dict())
    if central.mechanism is None:
        assert alone.losses == pytest.approx(central.losses[1::2], rel=1e-12)
    assert alone.mechanisms == ({} if central.mechanism is None else {1: central.mechanism})


def test_one_round_is_the_average_weighted_by_records(
    lead: Lead, blobs: Blobs, network: Network, blob_bounds: Bounds
) -> None:
    parts = [np.arange(10), np.arange(10, 60)]
    found = lead(federated("standard", clients=2, rounds=1), parts=parts)
    x, y = blobs(60)
    states = []
    for number, rows in enumerate(parts, start=1):
        settings: dict[str, Any] = {"bounds": blob_bounds, "seed": client_seed(7, number), "epochs": 2}
        client = build_trainer(network(), RECIPES["standard"], x[rows], y[rows], **settings)
        client.run()
        states.append(client.model.state_dict())
    for name, value in found.weights.items():
        torch.testing.assert_close(value, (10 * states[0][name] + 50 * states[1][name]) / 60, rtol=0, atol=1e-6)


def test_clients_are_given_their_own_rows_and_no_others(lead: Lead, blobs: Blobs) -> None:
    executor, recipe = Recorded(), federated("standard")
    x, y = (tensor.numpy() for tensor in blobs(60))
    parts = partition(np.arange(60), y, recipe.federation, seed=7)  # type: ignore[arg-type]
    lead(recipe, executor=executor)
    for rows, plan in zip(parts, executor.plans.values(), strict=True):
        assert np.array_equal(plan.x, x[rows])
        assert np.array_equal(plan.y, y[rows])
        assert not np.shares_memory(plan.x, x)


def test_the_rows_of_others_change_nothing_at_a_client(lead: Lead, blobs: Blobs, network: Network) -> None:
    one, other = Recorded(), Recorded()
    recipe = federated("standard", clients=2)
    lead(recipe, executor=one, parts=[np.arange(20), np.arange(20, 40)])
    lead(recipe, executor=other, parts=[np.arange(20), np.arange(40, 60)])
    assert np.array_equal(one.plans[1].x, other.plans[1].x)
    assert one.plans[1].seed == other.plans[1].seed
    assert not np.array_equal(one.plans[2].x, other.plans[2].x)


@pytest.mark.parametrize("name", ["standard", "private adversarial"])
def test_the_order_of_replies_changes_nothing(name: str, lead: Lead) -> None:
    forwards, backwards = lead(federated(name)), lead(federated(name), executor=Backwards())
    assert same(forwards.weights, backwards.weights)
    assert forwards.losses == backwards.losses
    assert forwards.mechanisms == backwards.mechanisms


def test_equal_seeds_give_equal_weights_and_others_do_not(lead: Lead) -> None:
    one, again, other = (lead(federated("standard"), seed=seed) for seed in (7, 7, 8))
    assert same(one.weights, again.weights)
    assert not same(one.weights, other.weights)


def test_clients_draw_from_their_own_streams() -> None:
    assert len({client_seed(seed, number) for seed in range(5) for number in range(1, 50)}) == 245


@pytest.mark.parametrize("error", [TimeoutError("too late"), RuntimeError("the worker died")])
def test_a_client_that_failed_or_was_too_late_fails_the_round_by_name(lead: Lead, error: Exception) -> None:
    executor = Replies({2: error})
    with pytest.raises(FederationError, match=f"client 2 did not complete its round: .*{error}") as caught:
        lead(federated("standard"), executor=executor)
    assert executor.closed
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_client_that_raises_fails_the_round_by_name(lead: Lead, blobs: Blobs) -> None:
    class Poisoned(LocalExecutor):
        def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
            def broken(request: Any) -> Any:
                raise ZeroDivisionError("no such ward")

            makers = dict(clients)
            makers[3] = lambda: broken
            return super().host(makers)

    with pytest.raises(FederationError, match=r"client 3 did not complete its round: .*no such ward"):
        lead(federated("standard"), executor=Poisoned())


def test_a_client_whose_training_diverges_fails_the_round_by_name(lead: Lead) -> None:
    wild = federated("standard").model_copy(update={"training": SGD.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(FederationError, match=r"client \d did not complete its round: .*lower the learning rate"):
        lead(wild)


def test_a_lost_reply_fails_the_round_by_name(lead: Lead) -> None:
    with pytest.raises(FederationError, match="client 2"):
        lead(federated("standard"), executor=Replies({2: None}))


def test_every_round_has_the_deadline_of_the_recipe(lead: Lead) -> None:
    executor = Replies({})
    lead(federated("standard", rounds=3, deadline_seconds=12.5), executor=executor)
    assert executor.timeouts == [12.5] * 3
    assert executor.closed


def test_a_round_that_passes_its_deadline_in_this_process_fails(lead: Lead) -> None:
    class Slow(LocalExecutor):
        def host(self, clients: Mapping[int, Callable[[], Client]]) -> Host:
            def slow(make: Callable[[], Client]) -> Client:
                client = make()
                return lambda request: time.sleep(0.05) or client(request)  # type: ignore[func-returns-value]

            return super().host({number: lambda make=make: slow(make) for number, make in clients.items()})

    with pytest.raises(FederationError, match="client"):
        lead(federated("standard", deadline_seconds=0.02), executor=Slow())


@pytest.mark.timeout(2)
def test_fewer_parts_than_clients_do_not_wait_for_ever(lead: Lead) -> None:
    with pytest.raises((FederationError, ValueError, AssertionError)):
        lead(federated("standard", clients=3), parts=[np.arange(30), np.arange(30, 60)])


@pytest.mark.parametrize("name", ["private", "private adversarial"])
def test_every_client_accounts_for_the_steps_of_all_rounds(name: str, lead: Lead) -> None:
    parts = [np.arange(10), np.arange(10, 30), np.arange(30, 60)]
    found = lead(federated(name, rounds=3, local_epochs=2), parts=parts)
    assert found.mechanisms == {
        number: Mechanism(
            noise_multiplier=1.3, sample_rate=min(1.0, 16 / len(rows)), steps=6 * -(-len(rows) // 16), delta=1e-5
        )
        for number, rows in enumerate(parts, start=1)
    }


def test_noise_is_calibrated_for_all_rounds(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("assay.privacy.plan.calibrate", lambda **given: asked.append(given["steps"]) or 1.0)
    lead(federated("private", clients=1, rounds=3, local_epochs=2))
    assert asked == [6 * 4]


def test_nothing_private_has_no_account(lead: Lead) -> None:
    assert lead(federated("standard")).mechanisms == {}


def test_adversarial_private_and_federated_train_by_composition(lead: Lead, network: Network) -> None:
    recipe = federated("private adversarial", rounds=4)
    found = lead(recipe)
    assert not same(found.weights, network().state_dict())
    assert all(weight.isfinite().all() for weight in found.weights.values())
    assert set(found.mechanisms) == {1, 2, 3}
    others = [lead(federated(name, rounds=4)).weights for name in ("standard", "adversarial", "private")]
    assert not any(same(found.weights, other) for other in others)


def test_federated_training_learns(lead: Lead) -> None:
    found = lead(federated("adam", rounds=8, local_epochs=5))
    assert len(found.losses) == 8
    assert found.losses[-1] < 0.8 * found.losses[0]
    assert 0 < found.client_seconds < found.seconds


def test_a_private_client_tells_nobody_its_loss(lead: Lead) -> None:
    """It is a figure of the client's own records that no noise covers."""
    assert np.isnan(lead(federated("private")).losses).all()


def test_the_callback_sees_every_round(lead: Lead) -> None:
    seen: list[int] = []
    lead(federated("standard", rounds=3), after_round=seen.append)
    assert seen == [1, 2, 3]


def test_the_grid_names_its_clients_in_order() -> None:
    assert list(ExecutorGrid(LocalHost({}), [3, 1, 2]).get_node_ids()) == [1, 2, 3]


def test_fedprox_without_a_pull_is_fedavg_and_with_one_stays_nearer(lead: Lead, network: Network) -> None:
    average = lead(federated("standard"))
    free = lead(federated("standard", strategy="fedprox", proximal_mu=0.0))
    held = lead(federated("standard", strategy="fedprox", proximal_mu=5.0))
    assert same(average.weights, free.weights)
    start = network().state_dict()

    def moved(found: Federated) -> float:
        return sum(float((found.weights[name] - start[name]).square().sum()) for name in start)

    assert moved(held) < 0.7 * moved(average)


def test_treatments_are_counted_over_all_clients(lead: Lead) -> None:
    poisoned = federated("standard").model_copy(update={"data": Recipe(data=[{"name": "label_flips"}]).data})
    total = {"tampered": 12, "removed": 0, "removed_tampered": 0}
    each = {f"label_flips.{what}": count for what, count in total.items()}
    assert lead(poisoned).treatment == {"given": 60, **total, **each}


def test_clients_poison_sanitize_and_weigh_their_own_records(lead: Lead) -> None:
    data = Recipe(data=[{"name": "backdoor", "share": 0.1}, "loss_sanitation", "robust_reweighting"]).data
    poisoned = federated("standard").model_copy(update={"data": data})
    found, again = lead(poisoned), lead(poisoned)
    assert (found.treatment["tampered"], found.treatment["backdoor.tampered"]) == (6, 6)
    assert found.treatment["loss_sanitation.removed"] > 0
    assert same(found.weights, again.weights)
    assert not same(found.weights, lead(poisoned.model_copy(update={"data": data[:-1]})).weights)
