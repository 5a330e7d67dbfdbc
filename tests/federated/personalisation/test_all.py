"""What every personalisation promises."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from assay.errors import FederationError
from assay.federated.personalisation.base import Personalisation
from assay.privacy.accounting import rdp_epsilon
from assay.privacy.plan import forecast_mechanism
from assay.recipes import Privacy
from assay.registry import build, names
from tests.federated.personalisation.conftest import (
    ADAM,
    Case,
    NewWorkers,
    TwoWorkers,
    equal,
    normalised,
)

ALL = ("apfl", "ditto", "fedbn", "fedper", "fedrep", "fine_tuning")
PARTLY = ("fedbn", "fedper", "fedrep")
FOR_PRIVACY = [name for name in ALL if name != "fedbn"]


@pytest.fixture
def of(case: Case) -> Any:
    """``of(name)``: the case with a network that the method can work on."""

    def made(name: str) -> Case:
        return Case(normalised, case.bounds, case.x, case.y) if name == "fedbn" else case

    return made


def test_these_are_all() -> None:
    build("personalisation", "ditto")
    assert tuple(names("personalisation")) == ALL


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_workers_changes_no_bit(name: str, of: Any) -> None:
    case = of(name)
    recipe = case.recipe(name, training=ADAM, optimizer_state="kept")
    one = case.run(recipe)
    assert one.personal.keys() == {1, 2, 3}
    assert not equal(one.personal[1], one.personal[3])
    for executor in (TwoWorkers(), NewWorkers()):
        other = case.run(recipe, executor=executor)
        assert equal(one.weights, other.weights)
        for client, own in one.personal.items():
            assert equal(own, other.personal[client])


@pytest.mark.parametrize("name", ALL)
def test_a_training_goes_on_after_its_last_round(
    name: str, of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.federated.server._SAVE_EVERY", 0.0)
    case = of(name)
    recipe = case.recipe(name)

    def end(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.run(recipe, folder=tmp_path, key="a", after_round=end)
    seen: list[int] = []
    resumed = case.run(recipe, folder=tmp_path, key="a", after_round=seen.append)
    whole = case.run(recipe)
    assert seen == [3]
    assert equal(resumed.weights, whole.weights)
    assert all(equal(resumed.personal[client], own) for client, own in whole.personal.items())


@pytest.mark.parametrize("name", [name for name in ALL if name != "fedbn"])
def test_clients_that_were_never_drawn_have_a_model_too(name: str, case: Case) -> None:
    recipe = case.recipe(name, rounds=1, participation="fraction", share=0.3)
    found = case.run(recipe)
    (drawn,) = found.record.participation
    assert found.personal.keys() == {1, 2, 3}
    assert found.record.without_model == {}
    never = next(client for client in (1, 2, 3) if str(client) != drawn)
    if name in ("ditto", "apfl"):
        assert equal(found.personal[never], found.weights)
    if name in ("fedper", "fedrep"):
        assert any("took part in no round" in note for note in found.notes)


@pytest.mark.parametrize("name", ALL)
def test_no_record_but_the_clients_own_is_read(name: str, of: Any) -> None:
    case = of(name)
    recipe = case.recipe(name, rounds=2)
    poisoned = np.concatenate([case.x, np.full((9, 5), np.nan, np.float32)])
    labels = np.concatenate([case.y, np.zeros(9, case.y.dtype)])
    found, other = case.run(recipe), case.run(recipe, x=poisoned, y=labels)
    assert all(equal(own, other.personal[client]) for client, own in found.personal.items())


@pytest.mark.parametrize("name", FOR_PRIVACY)
def test_what_a_private_client_spends_is_within_the_target(name: str, case: Case) -> None:
    privacy = Privacy(epsilon=4.0, delta=1e-3)
    case = Case(case.network, case.bounds, case.x, case.y, np.split(np.arange(72), 3))
    recipe = case.recipe(name, privacy=privacy, rounds=2)
    found = case.run(recipe)
    assert found.mechanisms.keys() == {1, 2, 3}
    for mechanism in found.mechanisms.values():
        spent = rdp_epsilon(mechanism)
        assert 3.6 < spent <= 4.0
        assert mechanism == forecast_mechanism(recipe, units=24, unit="record")
        steps = {"ditto": 8, "apfl": 8, "fedper": 4, "fedrep": 6, "fine_tuning": 5}[name]
        assert mechanism.steps == steps * 3


@pytest.mark.parametrize("name", PARTLY)
def test_vectors_of_scaffold_are_refused_where_layers_stay_at_clients(name: str, of: Any) -> None:
    with pytest.raises(ValidationError, match="have nothing in common"):
        of(name).recipe(name, strategy="scaffold")
    of("ditto").recipe("ditto", strategy="scaffold")


@pytest.mark.parametrize("name", PARTLY)
def test_teachers_are_refused_where_the_shared_network_is_no_model(name: str, of: Any) -> None:
    recipe = of(name).recipe(name)
    with pytest.raises(ValidationError, match="an objective with teachers"):
        type(recipe)(objective="distillation", federation=recipe.federation)


def test_a_strategy_pulls_shared_parameters_alone(case: Case) -> None:
    strong = {"name": "fedprox", "proximal_mu": 15.0}
    free, held = (case.recipe("fedper", strategy=strategy, rounds=1) for strategy in ("fedavg", strong))
    start = case.network().state_dict()
    moves = []
    for recipe in (free, held):
        own = case.run(recipe).personal[1]
        moves.append({name: float((own[name] - start[name]).norm()) for name in own})
    head, body = "3.weight", "1.weight"
    assert head in start and body in start, list(start)
    assert moves[1][body] < 0.4 * moves[0][body]
    assert moves[1][head] > 0.8 * moves[0][head]


def test_a_client_without_a_model_fails_the_training_with_its_reason(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Personalisation, client: Any, flat: Any) -> torch.Tensor:
        if client.number == 2:
            raise ValueError("no memory")
        return torch.as_tensor(flat.vector)

    monkeypatch.setattr("assay.federated.personalisation.ditto.Ditto.own", broken)
    with pytest.raises(FederationError, match="client 2 did not complete its own model: ValueError: no memory"):
        case.run(case.recipe("ditto", rounds=1))
