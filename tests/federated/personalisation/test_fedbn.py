"""FedBN: normalisation stays at each client."""

import pytest
import torch
from torch import nn

from assay.errors import IncompatibleRecipeError
from assay.federated.personalisation.fedbn import FedBN, take_statistics
from tests.federated.personalisation.conftest import Case, equal, normalised

OWN = ("1.weight", "1.bias", "1.running_mean", "1.running_var")


@pytest.fixture
def case(case: Case) -> Case:
    return Case(normalised, case.bounds, case.x, case.y)


def test_scale_shift_and_statistics_are_the_clients_own_and_all_else_is_shared(case: Case) -> None:
    found = case.run(case.recipe("fedbn"))
    for part in OWN:
        assert not torch.equal(found.personal[1][part], found.personal[3][part]), part
        assert torch.equal(found.weights[part], normalised().state_dict()[part]), part
    for part in found.weights.keys() - {*OWN, "1.num_batches_tracked"}:
        assert torch.equal(found.personal[1][part], found.weights[part]), part


def test_one_client_with_its_own_normalisation_trains_as_without_a_federation(case: Case) -> None:
    import numpy as np

    alone = Case(normalised, case.bounds, case.x, case.y, [np.arange(40)])
    found = alone.run(alone.recipe("fedbn", rounds=2))
    network = normalised()
    for number in range(2):  # the momentum starts anew in each round
        trainer = alone.trainer(network, alone.recipe(None), 1, epochs=4)
        trainer.step = number * 2 * trainer.steps_per_epoch
        trainer.run(2)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(found.personal[1][name], tensor, rtol=0, atol=1e-6)


def test_clients_that_never_trained_have_no_model_unless_their_adaptation_is_stated(case: Case) -> None:
    drawing = {"rounds": 1, "participation": "fraction", "share": 0.3}
    found = case.run(case.recipe("fedbn", **drawing))
    (drawn,) = found.record.participation
    never = {1, 2, 3} - {int(drawn)}
    assert found.personal.keys() == {int(drawn)}
    assert found.record.without_model.keys() == {str(client) for client in never}
    assert all("took part in no round" in reason for reason in found.record.without_model.values())
    adapted = case.run(case.recipe({"name": "fedbn", "adaptation": "statistics"}, **drawing))
    assert adapted.personal.keys() == {1, 2, 3}
    assert adapted.record.without_model == {}
    assert equal(adapted.personal[int(drawn)], found.personal[int(drawn)])
    for client in never:
        own = adapted.personal[client]
        first = nn.Linear(5, 6)
        first.load_state_dict({"weight": own["0.weight"], "bias": own["0.bias"]})
        seen = first(torch.from_numpy(case.x[case.parts[client - 1]])).detach()
        size = 8
        means = torch.stack([part.mean(0) for part in seen.split(size)])
        spreads = torch.stack([part.var(0) for part in seen.split(size)])
        torch.testing.assert_close(own["1.running_mean"], means.mean(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(own["1.running_var"], spreads.mean(0), rtol=0, atol=1e-5)
        assert any(f"client {client}: took part in no round" in note for note in found_notes(adapted))


def found_notes(found: object) -> list[str]:
    return list(found.notes)  # type: ignore[attr-defined]


def test_taking_statistics_leaves_the_networks_own_momentum(case: Case) -> None:
    network = normalised()
    take_statistics(network, torch.from_numpy(case.x), at_once=16)
    assert (network[1].momentum, network.training, network[1].training) == (0.1, False, False)


def test_what_has_no_normalisation_is_refused(case: Case) -> None:
    with pytest.raises(IncompatibleRecipeError, match="this network has none, so all clients"):
        FedBN().refuse(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)))
    grouped = nn.Sequential(nn.Linear(5, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    FedBN().refuse(grouped)
    assert [name for name, _ in grouped.named_parameters() if not FedBN().is_shared(grouped)(name)] == [
        "1.weight",
        "1.bias",
    ]
    with pytest.raises(IncompatibleRecipeError, match="set adaptation to none"):
        FedBN(adaptation="statistics").refuse(grouped)


def test_the_shared_model_holds_no_statistics_of_a_client(case: Case) -> None:
    found = case.run(case.recipe({"name": "fine_tuning"}, buffers="local"))
    for part in ("1.running_mean", "1.running_var"):
        assert torch.equal(found.weights[part], normalised().state_dict()[part])
