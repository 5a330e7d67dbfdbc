"""Networks with one output, or with probabilities, answer as the same network with one logit a class would."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.bounds.interval import certified
from assay.explain.integrated_gradients import integrated_gradients
from assay.models.outputs import LogProbabilities, TwoLogits, single_output_range, to_logits
from assay.threats import Bounds, Threat


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
    assert certified(model, x, y, threat).tolist() == withstood
    assert (~PGD().run(model, x, y, threat, seed=0).fooled).tolist() == withstood
    found = integrated_gradients(model, x, torch.ones_like(y), baseline=torch.zeros(3))
    torch.testing.assert_close(found.values, (x * linear.weight).detach())


def test_two_logits_add_nothing_to_the_weights_of_a_file() -> None:
    assert dict(TwoLogits().state_dict()) == {}


def test_the_range_of_one_output_is_told_where_it_was_taken_for_a_logit(x: Tensor) -> None:
    class Hidden(nn.Module):
        """Returns a probability that no layer tells of."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x.sum(1, keepdim=True))

    found = single_output_range(to_logits(Hidden(), (3,), 2, None), [x])
    assert found is not None
    assert 0 < found[0] < found[1] < 1
    assert single_output_range(to_logits(single(nn.Sigmoid()), (3,), 2, None), [x]) is None
    assert single_output_range(nn.Linear(3, 2), [x]) is None
