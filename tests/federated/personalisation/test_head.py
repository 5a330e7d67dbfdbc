"""FedPer and FedRep: the head stays at each client."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError, SpecError
from assay.executors import LocalExecutor, LocalHost
from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.fedrep import FedRep, training_alone
from assay.federated.personalisation.head import head_parameters
from tests.federated.personalisation.conftest import PARTS, Case, close, equal

HEAD, BODY = ("3.weight", "3.bias"), ("1.weight", "1.bias")


class Overheard(LocalExecutor):
    """Keeps the weights that were sent and the sums that came back."""

    def __init__(self) -> None:
        self.sent: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.steps: list[dict[int, int]] = []

    def host(self, make: Any) -> LocalHost:
        executor = self

        class Listening(LocalHost):
            def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
                replies = super().call(requests, shared, timeout)
                executor.sent.append(shared.weights.clone())
                executor.sums += [reply.sums["update"][0] for reply in replies.values() if "update" in reply.sums]
                reports = [reply.reports for reply in replies.values() if reply.sums]
                executor.steps += [{client: report.steps for client, report in each.items()} for each in reports]
                return replies

        return Listening(make)


def test_the_head_is_the_last_layer_with_parameters_or_what_is_named(case: Case) -> None:
    network = case.network()
    assert head_parameters(network) == set(HEAD)
    assert head_parameters(network, ("1",)) == set(BODY)
    deep = nn.Sequential(network, nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.ReLU())
    assert head_parameters(deep) == {"1.0.weight", "1.0.bias"}
    assert head_parameters(deep, ("0.3", "1")) == {"0.3.weight", "0.3.bias", "1.0.weight", "1.0.bias"}
    with pytest.raises(SpecError, match=r"unknown layer 'fc'; allowed: 0, 0\.1, 0\.3, 1, 1\.0"):
        head_parameters(deep, ("fc",))


@pytest.mark.parametrize("name", ["fedper", "fedrep"])
def test_a_head_that_is_unknown_or_everything_is_refused_before_training(name: str, case: Case) -> None:
    never = {"after_round": lambda number: pytest.fail("a round ran")}
    with pytest.raises(SpecError) as caught:
        case.run(case.recipe({"name": name, "head": ["9"]}), **never)
    assert (caught.value.given, caught.value.allowed) == ("9", ["1", "3"])
    with pytest.raises(IncompatibleRecipeError, match="would share nothing"):
        case.run(case.recipe({"name": name, "head": ["1", "3"]}), **never)
    linear = Case(lambda: nn.Linear(5, 2), case.bounds, case.x, case.y)
    with pytest.raises(IncompatibleRecipeError, match="would share nothing"):
        linear.run(linear.recipe(name), **never)


@pytest.mark.parametrize("name", ["fedper", "fedrep"])
def test_the_head_never_travels(name: str, case: Case) -> None:
    executor, size = Overheard(), sum(case.network().state_dict()[part].numel() for part in BODY)
    found = case.run(case.recipe(name), executor=executor)
    assert {len(vector) for vector in [*executor.sent, *executor.sums]} == {size}
    assert len(executor.sums) == 3
    for part in BODY:
        assert all(torch.equal(found.personal[client][part], found.weights[part]) for client in (1, 2, 3))
    for part in HEAD:
        assert not torch.equal(found.personal[1][part], found.personal[2][part])
        assert torch.equal(found.weights[part], case.network().state_dict()[part])


def by_hand(case: Case, *, rounds: int, head_epochs: int, epochs: int) -> dict[int, dict[str, Tensor]]:
    """Rounds written out: a head a client, the mean of the bodies by records, and SGD with momentum that starts anew.

    Without ``head_epochs``, head and body are trained together (FedPer).
    """
    recipe, start = case.recipe(None), case.network().state_dict()
    body = {part: start[part].double() for part in BODY}
    heads = {client: {part: start[part] for part in HEAD} for client in (1, 2, 3)}
    sizes = [len(rows) for rows in PARTS]
    for number in range(rounds):
        trained = []
        for client in (1, 2, 3):
            network = case.network()
            network.load_state_dict({part: tensor.float() for part, tensor in body.items()} | heads[client])
            phases = [(head_epochs, HEAD), (epochs, BODY)] if head_epochs else [(epochs, HEAD + BODY)]
            done = number * (head_epochs + epochs)
            for passes, trainable in phases:
                for name, parameter in network.named_parameters():
                    parameter.requires_grad_(name in trainable)
                trainer = case.trainer(network, recipe, client, epochs=rounds * (head_epochs + epochs))
                trainer.step = done * trainer.steps_per_epoch
                trainer.run(passes)
                trainer.close()
                done += passes
            state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            trained.append(state)
            heads[client] = {part: state[part] for part in HEAD}
        body = {
            part: sum(size * state[part].double() for size, state in zip(sizes, trained, strict=True)) / sum(sizes)
            for part in BODY
        }
    shared = {part: tensor.float() for part, tensor in body.items()}
    return {client: {**shared, **heads[client]} for client in (1, 2, 3)}


@pytest.mark.parametrize(("name", "head_epochs"), [("fedper", 0), ("fedrep", 2)])
def test_the_personal_models_are_those_trained_by_hand(name: str, head_epochs: int, case: Case) -> None:
    settings = {"name": name, "head_epochs": head_epochs} if head_epochs else {"name": name}
    found = case.run(case.recipe(settings))
    expected = by_hand(case, rounds=3, head_epochs=head_epochs, epochs=2)
    for client, own in found.personal.items():
        close(own, expected[client], atol=1e-6)


def test_in_fedrep_the_head_is_fitted_before_the_body(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool, bool]] = []
    finish = ClientRound.finish

    def watched(self: ClientRound, trainer: Any, **about: Any) -> None:
        now = trainer.model.state_dict()
        moved = [any(not torch.equal(now[part], before[part]) for part in parts) for parts in (HEAD, BODY)]
        before.update({part: tensor.clone() for part, tensor in now.items()})
        seen.append((len(trainer.losses), *moved))
        finish(self, trainer, **about)

    before = {part: tensor.clone() for part, tensor in case.network().state_dict().items()}
    monkeypatch.setattr(ClientRound, "finish", watched)
    alone = Case(case.network, case.bounds, case.x, case.y, [np.arange(40)])
    found = alone.run(alone.recipe({"name": "fedrep", "head_epochs": 3}, rounds=1))
    assert seen == [(3, True, False), (2, False, True)]
    assert found.record.rounds[0].answered == 1


def test_the_steps_of_a_fedrep_update_are_those_of_the_body(case: Case) -> None:
    """FedNova divides an update by its steps."""
    executor = Overheard()
    case.run(case.recipe({"name": "fedrep", "head_epochs": 3}, rounds=2), executor=executor)
    assert executor.steps == [{1: 2 * 4, 2: 2 * 3, 3: 2 * 4}] * 2


def test_all_parameters_are_trainable_again_after_an_error(case: Case) -> None:
    network = case.network()
    flat = FlatNetwork(network, FedRep().is_shared(network))
    with pytest.raises(RuntimeError), training_alone(network, flat.shared_names):
        assert [name for name, p in network.named_parameters() if p.requires_grad] == list(BODY)
        raise RuntimeError
    assert all(p.requires_grad for p in network.parameters())


def test_a_network_with_another_head_is_another_model(case: Case) -> None:
    last, first = (case.run(case.recipe({"name": "fedper", "head": head})) for head in ([], ["1"]))
    assert not equal(last.personal[1], first.personal[1])
    assert equal(last.personal[1], case.run(case.recipe({"name": "fedper", "head": ["3"]})).personal[1])
