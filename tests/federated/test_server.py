"""Federated training: the one loop at every client, sums that no topology changes, and rounds that end."""

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import FederationError, IncompatibleRecipeError, UserError
from assay.federated import server
from assay.federated.client import Records
from assay.federated.local_trainer import LocalTrainer
from assay.federated.server import Federated
from assay.federated.worker import ClientWorker
from assay.objectives.fast import FastAdversarial
from assay.privacy.accounting import Mechanism
from assay.recipes import Recipe
from assay.seeds import client_seed
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.probe import Probe
from assay.training.update import PlainUpdate
from tests.federated.conftest import RECIPES, SGD, Blobs, Lead, Network, Workers, federated, same

UNEVEN = [np.arange(10), np.arange(10, 30), np.arange(30, 60)]
TOP_K = [{"name": "top_k", "share": 0.1}, {"name": "quantise", "bits": 8}]
EVERY_STATE: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum kept": ("standard", {"optimizer_state": "kept"}),
    "scaffold": ("plain", {"strategy": "scaffold"}),
    "server's adam": ("standard", {"strategy": "fedadam"}),
    "flower's adam": ("standard", {"strategy": "flower:FedAdam"}),
    "flower's momentum": (
        "standard",
        {"strategy": {"name": "flower", "strategy": "FedAvgM", "settings": {"server_momentum": 0.9}}},
    ),
    "residuals": ("standard", {"transforms": TOP_K}),
    "drawn clients": ("adam", {"participation": "fraction", "share": 0.5, "optimizer_state": "kept"}),
    "private": ("private adversarial", {}),
    "single updates": ("standard", {"strategy": "fedmedian"}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_one_client_equals_central_training_bit_for_bit(
    name: str, lead: Lead, blobs: Blobs, network: Network, blob_bounds: Bounds
) -> None:
    alone = lead(federated(name, clients=1, rounds=3, optimizer_state="kept"), parts=[np.arange(60)])
    x, y = blobs(60)
    central = build_trainer(network(), RECIPES[name], x, y, bounds=blob_bounds, seed=client_seed(7, 1), epochs=6)
    central.run()
    assert same(alone.weights, central.model.state_dict())
    if central.mechanism is None:
        assert alone.losses == pytest.approx(central.losses[1::2], rel=1e-12)
    assert alone.mechanisms == ({} if central.mechanism is None else {1: central.mechanism})


@pytest.mark.parametrize(("momentum", "state"), [(0.9, "fresh"), (0.0, "kept")])
def test_rounds_equal_a_plain_loop_over_the_clients(
    momentum: float, state: str, lead: Lead, blobs: Blobs, network: Network
) -> None:
    """In float64, with an optimiser that starts anew in each round, as in the papers."""
    training = SGD.model_copy(update={"momentum": momentum, "schedule": "constant"})
    recipe = federated("standard", rounds=4, optimizer_state=state).model_copy(update={"training": training})
    x, y = (tensor.double() if tensor.is_floating_point() else tensor for tensor in blobs(60))
    found = lead(recipe, parts=UNEVEN, network=lambda: network().double(), x=x.numpy())

    weights = network().double().state_dict()
    for number in range(4):
        clients = []
        for client, rows in enumerate(UNEVEN, start=1):
            model = network().double()
            model.load_state_dict(weights)
            update = PlainUpdate(model, records=len(rows), batch_size=16, seed=client_seed(7, client))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
            steps = 2 * -(-len(rows) // 16)
            for step in range(number * steps, (number + 1) * steps):
                batch = torch.from_numpy(rows[update.batch(step)])
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
            clients.append((len(rows), model.state_dict()))
        weights = {key: sum(size * each[key] for size, each in clients) / 60 for key in weights}
    for key, value in weights.items():
        torch.testing.assert_close(found.weights[key], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("what", EVERY_STATE)
def test_number_order_and_loss_of_workers_change_no_bit(what: str, lead: Lead) -> None:
    name, settings = EVERY_STATE[what]
    recipe = federated(name, clients=5, rounds=3, **settings)
    alone = lead(recipe)
    dies = Workers(2, lost=((2, 1), (5, 0)))
    for executor in (Workers(2), Workers(4, backwards=True), dies):
        other = lead(recipe, executor=executor)
        assert same(alone.weights, other.weights), executor.places
        assert alone.losses == pytest.approx(other.losses, nan_ok=True, rel=0)
        assert alone.mechanisms == other.mechanisms
        assert executor.closed
    assert dies.restarted
    assert [len(each.failures) for each in other.record.rounds] == [0, 0, 0]


@pytest.mark.parametrize("what", EVERY_STATE)
@pytest.mark.parametrize("last", [1, 3])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    what: str, last: int, lead: Lead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SAVE_EVERY", 0.0)
    name, settings = EVERY_STATE[what]
    recipe = federated(name, clients=4, rounds=5, **settings)
    whole = lead(recipe)

    def stop(number: int) -> None:
        if number == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead(recipe, folder=tmp_path / "rounds", key="k", after_round=stop)
    seen: list[int] = []
    resumed = lead(recipe, folder=tmp_path / "rounds", key="k", after_round=seen.append)
    assert seen == list(range(last + 1, 6))
    assert same(whole.weights, resumed.weights)
    assert whole.losses == pytest.approx(resumed.losses, nan_ok=True, rel=0)
    assert whole.mechanisms == resumed.mechanisms
    assert whole.record.participation == resumed.record.participation


def test_the_first_round_of_scaffold_is_that_of_fedavg(lead: Lead) -> None:
    plain, scaffold = (
        lead(federated("plain", strategy=name, rounds=1), parts=UNEVEN) for name in ("fedavg", "scaffold")
    )
    assert same(plain.weights, scaffold.weights)
    later = (lead(federated("plain", strategy=name, rounds=3), parts=UNEVEN) for name in ("fedavg", "scaffold"))
    assert not same(*(each.weights for each in later))


def test_flowers_average_is_that_of_assay_to_the_last_digits(lead: Lead) -> None:
    ours, theirs = (lead(federated("standard", strategy=name), parts=UNEVEN) for name in ("fedavg", "flower:FedAvg"))
    for key, value in ours.weights.items():
        torch.testing.assert_close(value, theirs.weights[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("on_cpu", "used"), [(False, "cuda"), (True, "cpu")])
def test_clients_for_the_cpu_use_no_gpu_of_their_worker(
    on_cpu: bool, used: str, lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Refusing:
        def __init__(self, given: Any, device: torch.device) -> None:
            seen.append(device.type)
            raise RuntimeError("enough")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("assay.federated.worker.LocalTrainer", Refusing)
    with pytest.raises(RuntimeError, match="enough"):
        lead(federated("standard"), on_cpu=on_cpu)
    assert seen == [used]


def test_clients_train_on_their_own_rows_and_no_others(
    lead: Lead, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, Tensor] = {}
    given = Records.of

    def noted(records: Records, number: int) -> tuple[Tensor, Tensor]:
        x, y = given(records, number)
        seen[number] = x
        return x, y

    monkeypatch.setattr(Records, "of", noted)
    x = blobs(60)[0]
    lead(federated("standard"), parts=UNEVEN)
    assert all(torch.equal(seen[number], x[rows]) for number, rows in enumerate(UNEVEN, start=1))


def test_the_rows_of_others_change_nothing_at_a_client(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    given = LocalTrainer._answer

    def noted(worker: LocalTrainer, session: Any, *rest: Any) -> Any:
        answer = given(worker, session, *rest)
        if session.number == 1:
            found.append(answer.update.clone())
        return answer

    monkeypatch.setattr(LocalTrainer, "_answer", noted)
    recipe = federated("standard", clients=2, rounds=1)
    lead(recipe, parts=[np.arange(20), np.arange(20, 40)])
    lead(recipe, parts=[np.arange(20), np.arange(40, 60)])
    assert torch.equal(found[0], found[1])


def break_client(monkeypatch: pytest.MonkeyPatch, client: int, act: Any, *, rounds: set[int] | None = None) -> None:
    """Runs ``act`` in place of a client's training, or before it."""
    given = LocalTrainer._answer

    def broken(worker: LocalTrainer, session: Any, shared: Any, wide: Tensor) -> Any:
        if session.number == client and (rounds is None or shared.number in rounds):
            act()
        return given(worker, session, shared, wide)

    monkeypatch.setattr(LocalTrainer, "_answer", broken)


def failing() -> None:
    raise ZeroDivisionError("no such ward")


def test_a_client_that_raises_fails_the_round_by_name(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    break_client(monkeypatch, 3, failing)
    executor = Workers(2)
    with pytest.raises(FederationError, match=r"client 3 did not complete its round: .*no such ward") as caught:
        lead(federated("standard"), executor=executor)
    assert executor.closed
    assert "2 of 3 clients answered, and 3 are needed" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("settings", [{"policy": "those_that_answer"}, {"policy": "at_least", "at_least": 2}])
def test_a_round_goes_on_without_a_client_that_raises(
    settings: dict[str, Any], lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_client(monkeypatch, 3, failing)
    found = lead(federated("standard", **settings), parts=UNEVEN)
    monkeypatch.undo()
    two = lead(federated("standard", clients=2), parts=UNEVEN[:2])
    assert same(found.weights, two.weights)
    assert [(each.asked, each.answered) for each in found.record.rounds] == [(3, 2)] * 2
    assert all("no such ward" in each.failures["3"] for each in found.record.rounds)
    assert all(each.causes == {"3": "raised"} for each in found.record.rounds)
    assert found.record.participation == {"1": 2, "2": 2}


def test_fewer_answers_than_the_policy_asks_for_end_the_training(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    break_client(monkeypatch, 3, failing, rounds={2})
    with pytest.raises(FederationError, match=r"round 2: 2 of 3 clients answered, and 3 are needed \(policy at_least"):
        lead(federated("standard", policy="at_least", at_least=3, rounds=3))


@pytest.mark.timeout(20)
def test_a_round_ends_by_its_deadline_without_a_client_that_hangs(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    break_client(monkeypatch, 2, lambda: time.sleep(60), rounds={1})
    executor = Workers(2)
    recipe = federated("standard", rounds=2, policy="those_that_answer", deadline_seconds=2.0)
    found = lead(recipe, executor=executor, parts=UNEVEN)
    first, second = found.record.rounds
    assert (first.answered, second.answered) == (2, 3)
    assert (first.failures, first.causes) == ({"2": "no reply within 2 s"}, {"2": "late"})
    assert len(executor.restarted) == 1


@pytest.mark.timeout(20)
def test_a_hanging_client_ends_a_training_that_needs_all(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    break_client(monkeypatch, 2, lambda: time.sleep(60))
    with pytest.raises(FederationError, match="client 2 did not complete its round: no reply within 1 s"):
        lead(federated("standard", deadline_seconds=1.0))


def test_a_worker_that_dies_again_loses_one_client_and_no_other(lead: Lead) -> None:
    """The first call has all three clients, the next ones have those of the dead worker, one each."""
    recipe = federated("standard", policy="those_that_answer")
    executor = Workers(1, lost=((1, 0), (3, 0)))
    found = lead(recipe, executor=executor, parts=UNEVEN)
    first, second = found.record.rounds
    assert (first.answered, second.answered) == (2, 3)
    assert [len(call[0]) for call in executor.calls] == [3, 1, 1, 1, 3]
    assert all("its worker was lost" in reason for reason in first.failures.values())
    assert set(first.causes.values()) == {"lost"}


def test_workers_that_cannot_be_replaced_leave_the_clients_to_the_others(lead: Lead) -> None:
    class Gone(Workers):
        def host(self, make: Any) -> Any:
            host = super().host(make)

            def restart(place: int) -> None:
                raise TimeoutError("the machine is gone")

            host.restart = restart
            return host

    recipe = federated("standard", clients=4)
    whole = lead(recipe)
    found = lead(recipe, executor=Gone(3, lost=((1, 1), (3, 0))))
    assert same(whole.weights, found.weights)
    with pytest.raises(FederationError, match="no worker is left"):
        lead(recipe, executor=Gone(1, lost=((1, 0),)))


def test_a_client_that_is_lost_in_every_round_is_charged_all_the_same(
    lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = federated("private", rounds=3, policy="those_that_answer")
    assert recipe.privacy is not None
    entropy = recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"noise": "entropy"})})
    given = LocalTrainer._answer

    def broken(worker: LocalTrainer, session: Any, shared: Any, wide: Tensor) -> Any:
        answer = given(worker, session, shared, wide)
        if session.number == 3:
            raise ZeroDivisionError("after its noise was drawn")
        return answer

    monkeypatch.setattr(LocalTrainer, "_answer", broken)
    found = lead(entropy, parts=UNEVEN)
    assert {number: each.steps for number, each in found.mechanisms.items()} == {1: 6, 2: 12, 3: 12}
    assert found.record.participation == {"1": 3, "2": 3}


def test_a_client_whose_training_diverges_fails_the_round_by_name(lead: Lead) -> None:
    wild = federated("standard").model_copy(update={"training": SGD.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(FederationError, match=r"client \d did not complete its round: .*lower the learning rate"):
        lead(wild)


def test_one_client_of_five_that_says_nan_changes_nothing_for_the_others(
    lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [np.arange(12 * i, 12 * i + 12) for i in range(5)]
    given = LocalTrainer._answer

    def poisoned(worker: LocalTrainer, session: Any, *rest: Any) -> Any:
        answer = given(worker, session, *rest)
        if session.number == 5:
            answer.values[3] = float("nan")
        return answer

    for strategy in ("fedavg", "fedmedian"):
        enough: dict[str, Any] = {"policy": "at_least", "at_least": 4}
        with monkeypatch.context() as patched:
            patched.setattr(LocalTrainer, "_answer", poisoned)
            recipe = federated("standard", clients=5, strategy=strategy, **enough)
            found = lead(recipe, parts=parts)
        four = lead(federated("standard", clients=4, strategy=strategy), parts=parts[:4])
        assert same(found.weights, four.weights)
        assert "not finite" in found.record.rounds[0].failures["5"]
        assert found.record.rounds[0].causes == {"5": "refused"}


def test_a_users_error_is_raised_as_such(lead: Lead) -> None:
    recipe = federated("private")
    assert recipe.privacy is not None
    wide = recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"delta": 0.5})})
    with pytest.raises(UserError, match=r"privacy\.delta"):
        lead(wide)


def test_a_strategy_below_its_bound_is_refused_before_training(lead: Lead) -> None:
    executor = Workers(1)
    with pytest.raises(IncompatibleRecipeError, match="at least 5 clients"):
        lead(federated("standard", strategy={"name": "krum", "malicious": 1}), executor=executor)
    assert executor.calls == []


def test_every_round_has_the_deadline_of_the_recipe(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    given = ClientWorker.__call__

    def noted(worker: ClientWorker, request: Any, shared: Any) -> Any:
        waited.append(shared.deadline)
        return given(worker, request, shared)

    monkeypatch.setattr(ClientWorker, "__call__", noted)
    lead(federated("standard", rounds=3, deadline_seconds=12.5))
    assert waited == pytest.approx([12.5] * 3, abs=0.5)


def test_fewer_parts_than_clients_are_refused(lead: Lead) -> None:
    with pytest.raises(ValueError, match="dealt to 2 clients, the recipe has 3"):
        lead(federated("standard", clients=3), parts=[np.arange(30), np.arange(30, 60)])


def test_drawn_clients_are_as_many_as_the_share_and_differ_from_round_to_round(lead: Lead) -> None:
    recipe = federated("standard", clients=6, rounds=6, participation="fraction", share=0.5)
    found, again, other = lead(recipe), lead(recipe), lead(recipe, seed=8)
    assert all((each.asked, each.answered) == (3, 3) for each in found.record.rounds)
    assert found.record.participation == again.record.participation
    assert found.record.participation != other.record.participation
    assert len(found.record.participation) > 3


def test_a_round_that_draws_nobody_changes_nothing(lead: Lead) -> None:
    drawn = {"participation": "poisson", "share": 0.2, "policy": "those_that_answer"}
    counts = [each.answered for each in lead(federated("standard", rounds=8, **drawn)).record.rounds]
    assert 0 in counts and max(counts) > 0
    empty = counts.index(0)
    until, further = (lead(federated("plain", rounds=n, **drawn)) for n in (empty or 8, (empty or 8) + 1))
    assert empty == 0 or same(until.weights, further.weights)


def test_a_training_in_which_nobody_took_part_is_an_error(lead: Lead) -> None:
    recipe = federated("standard", rounds=2, participation="poisson", share=1e-9, policy="those_that_answer")
    with pytest.raises(FederationError, match="no client took part in any of 2 rounds"):
        lead(recipe)


def test_a_client_without_a_record_is_named(lead: Lead) -> None:
    with pytest.raises(ValueError, match="client 2 has no record"):
        lead(federated("standard"), parts=[np.arange(30), np.arange(0), np.arange(30, 60)])


def test_clients_that_are_not_there_are_recorded(lead: Lead) -> None:
    recipe = federated("standard", clients=6, rounds=4, available=0.5, policy="those_that_answer")
    rounds = lead(recipe).record.rounds
    assert all(each.asked == 6 and each.answered + len(each.failures) == 6 for each in rounds)
    assert {reason for each in rounds for reason in each.failures.values()} == {"not available"}
    assert {cause for each in rounds for cause in each.causes.values()} == {"absent"}


def test_a_lost_try_with_noise_of_entropy_is_charged(lead: Lead, given_noise: float) -> None:
    recipe = federated("private", rounds=3)
    assert recipe.privacy is not None
    entropy = recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"noise": "entropy"})})
    whole = lead(entropy, parts=UNEVEN, executor=Workers(2)).mechanisms
    lost = lead(entropy, parts=UNEVEN, executor=Workers(2, lost=((1, 1),))).mechanisms
    steps = {number: 2 * -(-len(rows) // 16) for number, rows in enumerate(UNEVEN, start=1)}
    assert {number: each.steps for number, each in whole.items()} == {n: 3 * s for n, s in steps.items()}
    charged = {number for number in steps if lost[number].steps == 4 * steps[number]}
    assert charged
    assert all(lost[number] == whole[number] for number in steps.keys() - charged)
    seeded = lead(recipe, parts=UNEVEN, executor=Workers(2, lost=((1, 1),))).mechanisms
    assert {number: each.steps for number, each in seeded.items()} == {n: 3 * s for n, s in steps.items()}


def test_a_round_with_noise_of_entropy_that_a_crash_lost_is_charged(lead: Lead, tmp_path: Path) -> None:
    recipe = federated("private", rounds=3)
    assert recipe.privacy is not None
    entropy = recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"noise": "entropy"})})

    class Crashes(Workers):
        def host(self, make: Any) -> Any:
            host = super().host(make)
            given = host.call

            def call(*args: Any, **kwargs: Any) -> Any:
                replies = given(*args, **kwargs)
                if len(self.calls) == 2:
                    raise KeyboardInterrupt
                return replies

            host.call = call
            return host

    with pytest.raises(KeyboardInterrupt):
        lead(entropy, executor=Crashes(1), folder=tmp_path, key="k")
    found = lead(entropy, folder=tmp_path, key="k").mechanisms
    whole = lead(entropy).mechanisms
    assert all(found[number].steps > whole[number].steps for number in whole)


@pytest.mark.parametrize("name", ["private", "private adversarial"])
def test_every_client_accounts_for_the_steps_of_all_rounds(name: str, lead: Lead) -> None:
    found = lead(federated(name, rounds=3, local_epochs=2), parts=UNEVEN)
    assert found.mechanisms == {
        number: Mechanism(
            noise_multiplier=1.3, sample_rate=min(1.0, 16 / len(rows)), steps=6 * -(-len(rows) // 16), delta=1e-5
        )
        for number, rows in enumerate(UNEVEN, start=1)
    }


def test_noise_is_calibrated_for_all_rounds(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("assay.privacy.plan.calibrate", lambda **given: asked.append(given["steps"]) or 1.0)  # type: ignore[func-returns-value]

    lead(federated("private", clients=1, rounds=3, local_epochs=2))
    assert set(asked) == {6 * 4}


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


def test_equal_seeds_give_equal_weights_and_others_do_not(lead: Lead) -> None:
    one, again, other = (lead(federated("standard"), seed=seed) for seed in (7, 7, 8))
    assert same(one.weights, again.weights)
    assert not same(one.weights, other.weights)


def test_fedprox_without_a_pull_is_fedavg_and_with_one_stays_nearer(lead: Lead, network: Network) -> None:
    average = lead(federated("standard"))
    free = lead(federated("standard", strategy={"name": "fedprox", "proximal_mu": 0.0}))
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


def test_a_client_that_overfits_goes_back_to_what_it_was_sent(lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: dict[int, int] = {20: 0, 40: 0}

    def told(probe: Probe, model: nn.Module, attack: object, *, rollbacks: int) -> float:
        """In order, but for the second look of the client with twenty records."""
        looks[len(probe)] += 1
        return 0.1 if len(probe) == 20 and looks[20] == 4 else 0.9

    still: list[tuple[int, int]] = []
    given = LocalTrainer._answer

    def noted(worker: LocalTrainer, session: Any, shared: Any, wide: Tensor) -> Any:
        answer = given(worker, session, shared, wide)
        if not bool(answer.update.any()):
            still.append((shared.number, session.number))
        return answer

    monkeypatch.setattr(Probe, "balanced_accuracy", told)
    monkeypatch.setattr(LocalTrainer, "_answer", noted)
    recipe = federated("standard", clients=2, rounds=3, local_epochs=1)
    fast = recipe.model_copy(update={"objective": FastAdversarial(epsilon=0.3)})
    found = lead(fast, parts=[np.arange(20), np.arange(20, 60)])
    assert still == [(2, 1)]
    assert [note for note in found.notes if note.startswith("client 1: catastrophic overfitting")]


def test_what_a_client_sends_is_counted(lead: Lead, network: Network) -> None:
    plain, small = lead(federated("standard")), lead(federated("standard", transforms=TOP_K))
    weights = sum(p.numel() for p in network().parameters())
    assert plain.record.rounds[0].bytes_up == plain.record.rounds[0].bytes_down == 3 * (6 + 4 * weights)
    assert small.record.rounds[0].bytes_up < plain.record.rounds[0].bytes_up / 4


def test_all_of_top_k_equals_no_compression_bit_for_bit(lead: Lead) -> None:
    whole = lead(federated("standard", transforms=[{"name": "top_k", "share": 1.0}]), parts=UNEVEN)
    assert same(whole.weights, lead(federated("standard"), parts=UNEVEN).weights)


def test_fednova_sums_updates_whose_learning_rates_have_nearly_vanished(lead: Lead) -> None:
    """A cosine schedule ends at a ten-thousandth of its rate, by which updates are divided before they are summed."""
    training = SGD.model_copy(update={"momentum": 0.0})
    recipe = federated("plain", strategy="fednova", rounds=60, local_steps=1)
    found = lead(recipe.model_copy(update={"training": training}), parts=UNEVEN)
    assert [each.answered for each in found.record.rounds] == [3] * 60


@pytest.mark.parametrize("strategy", ["fedavg", {"name": "fedprox", "proximal_mu": 0.2}])
def test_a_strength_of_fedprox_beside_another_strategy_is_no_silent_setting(strategy: Any) -> None:
    with pytest.raises(ValueError, match="only fedprox has it"):
        federated("standard", strategy=strategy, proximal_mu=5.0)
