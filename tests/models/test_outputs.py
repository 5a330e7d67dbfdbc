"""Networks with one output, or with probabilities, answer as the same network with one logit a class would."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.bounds.interval import certified_by_intervals
from assay.models.outputs import LogProbabilities, Output, TwoLogits, network_outputs, to_logits
from assay.threats import Bounds, Threat
from tests.explaining import integrated_gradients


class Flat(nn.Module):
    """One logit a record, without an axis of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, 0]


@pytest.fixture
def x() -> Tensor:
    return torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def single(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 1), *layers).eval()


@pytest.mark.parametrize("network", [single(), Flat().eval()], ids=["a column", "no axis of classes"])
def test_one_logit_becomes_two_whose_softmax_is_its_sigmoid(network: nn.Module, x: Tensor) -> None:
    logits = to_logits(network, (3,), 2, None)(x)
    assert logits.shape == (20, 2)
    torch.testing.assert_close(logits.softmax(1)[:, 1], torch.sigmoid(network(x).flatten()))


def test_one_probability_behind_a_sigmoid_layer_keeps_its_value(x: Tensor) -> None:
    network = single(nn.Sigmoid())
    answers = to_logits(network, (3,), 2, None)(x).softmax(1)[:, 1]
    torch.testing.assert_close(answers, network(x).flatten())


def test_probabilities_of_several_classes_keep_their_values(x: Tensor) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1)).eval()
    answers = to_logits(network, (3,), 4, "probabilities")(x).softmax(1)
    torch.testing.assert_close(answers, network(x))


def test_certain_probabilities_give_finite_logits() -> None:
    found = LogProbabilities()(torch.tensor([[0.0], [1.0]]))
    assert bool(found.isfinite().all())
    assert found[0] < 0 < found[1]
    assert bool(LogProbabilities()(torch.tensor([[0.0, 1.0]])).isfinite().all())


def test_networks_with_a_logit_a_class_are_left_as_they_are() -> None:
    two, three = nn.Linear(3, 2), nn.Linear(3, 3)
    assert to_logits(two, (3,), 2, None) is two
    assert to_logits(three, (3,), 3, None) is three


def test_a_network_that_cannot_take_the_records_is_left_for_the_error_to_come() -> None:
    wide = nn.Linear(7, 1)
    assert to_logits(wide, (3,), 2, None) is wide


def test_training_mode_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(3, 1), nn.Dropout())
    to_logits(network, (3,), 2, None)
    assert all(layer.training for layer in network.modules())


def test_attacks_bounds_and_explanations_go_through_one_logit(x: Tensor) -> None:
    """The decision of (0, z) is the sign of z, so each has a closed form."""
    network = single()
    model, linear = to_logits(network, (3,), 2, None), network[0]
    z = network(x).flatten().detach()
    y = (z > 0).long()
    bounds = Bounds(low=torch.full((3,), -2.0), high=torch.full((3,), 2.0))
    threat = Threat(norm="linf", epsilon=0.2, bounds=bounds)
    withstood = (z.abs() > 0.2 * linear.weight.detach().abs().sum()).tolist()
    assert certified_by_intervals(model, x, y, threat).tolist() == withstood
    assert (~PGD().run(model, x, y, threat, seed=0).fooled).tolist() == withstood
    found = integrated_gradients(model, x, torch.ones_like(y), baseline=torch.zeros(3))
    torch.testing.assert_close(found.values, (x * linear.weight).detach())


def test_two_logits_add_nothing_to_the_weights_of_a_file() -> None:
    assert dict(TwoLogits().state_dict()) == {}


def test_a_last_softmax_layer_returns_probabilities(x: Tensor) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1)).eval()
    torch.testing.assert_close(to_logits(network, (3,), 4, None)(x).softmax(1), network(x))
    assert to_logits(network, (3,), 4, "logits") is network


def test_a_softmax_that_was_made_last_and_does_not_compute_last_is_no_last_layer() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.softmax = nn.Softmax(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x * self.softmax(x))

    network = Attention().eval()
    assert to_logits(network, (3,), 4, None) is network


@pytest.mark.parametrize("output", [None, "probabilities"])
def test_what_a_network_itself_returns_is_told_beside_how_it_is_read(x: Tensor, output: Output | None) -> None:
    network = single(nn.Sigmoid() if output else nn.Identity())
    front = nn.Sequential(nn.Identity(), to_logits(network, (3,), 2, output))
    found, as_probabilities = network_outputs(front, [x[:7], x[7:]])
    torch.testing.assert_close(found, network(x))
    assert as_probabilities == (output == "probabilities")


def test_a_network_is_tried_where_its_factory_has_put_it() -> None:
    network = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()).to("meta")
    assert [name for name, _ in to_logits(network, (4,), 2, None).named_children()] == [
        "network",
        "log_probabilities",
        "two_logits",
    ]
