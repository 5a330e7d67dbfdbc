"""Statistics of batch norm are those of all records, counters count, and what has no rule is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.federated.buffers import BatchNormMoments
from tests.federated.conftest import Lead, federated


class Normed(nn.Module):
    """Batch norm over five features, then a linear layer."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(5, momentum=momentum)
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x))


class Counting(Normed):
    """Has a buffer that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return super().forward(x)


PARTS = [np.arange(30), np.arange(30, 60)]
ONES = np.repeat(np.float32([[-1.0], [1.0]]), 30, axis=0) * np.ones((1, 5), np.float32)
"""Thirty records of -1 throughout, thirty of +1."""


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_clients_of_minus_one_and_one_have_mean_0_and_variance_1_together(lead: Lead, momentum: float | None) -> None:
    recipe = federated("standard", clients=2, rounds=30)
    found = lead(recipe, parts=PARTS, x=ONES, network=lambda: Normed(momentum))
    torch.testing.assert_close(found.weights["norm.running_mean"], torch.zeros(5), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.weights["norm.running_var"], torch.ones(5), rtol=0, atol=1e-2)


def test_statistics_equal_those_of_one_training_on_all_records(lead: Lead) -> None:
    """One round of one full batch each; the batch variance of PyTorch divides by n - 1."""
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(60, 5)).astype(np.float32)
    recipe = federated("standard", clients=2, rounds=1, local_epochs=1)
    training = recipe.training.model_copy(update={"batch_size": 64})
    found = lead(recipe.model_copy(update={"training": training}), parts=PARTS, x=x, network=Normed)
    mean = np.stack([x[rows].mean(0) for rows in PARTS]).mean(0)
    square = np.stack([x[rows].var(0, ddof=1) + x[rows].mean(0) ** 2 for rows in PARTS]).mean(0)
    torch.testing.assert_close(found.weights["norm.running_mean"], torch.from_numpy(0.1 * mean), rtol=1e-5, atol=1e-6)
    expected = torch.from_numpy((0.9 + 0.1 * (square - mean**2)).astype(np.float32))
    torch.testing.assert_close(found.weights["norm.running_var"], expected, rtol=1e-5, atol=1e-6)


def test_counters_are_whole_and_the_greatest_of_all_clients(lead: Lead) -> None:
    recipe = federated("standard", clients=2, rounds=3)
    counter = lead(recipe, parts=[np.arange(10), np.arange(10, 60)], network=Normed).weights["norm.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert int(counter) == 3 * 2 * 4


def test_a_client_that_saw_no_batch_says_what_it_was_sent() -> None:
    network = Normed()
    moments, buffers = BatchNormMoments(network), dict(network.named_buffers())
    vector = moments.vector(buffers, buffers)
    joined = moments.joined(vector, moments.counters(buffers), buffers)
    assert all(torch.equal(joined[name], buffers[name]) for name in joined)


@pytest.mark.parametrize(
    ("settings", "network", "message"),
    [
        ({"buffers": "refused"}, Normed, "keeps statistics of the records of each client"),
        ({"buffers": "local"}, Normed, "shared network would be tested with those before training"),
        ({}, Counting, "buffer 'seen' of the network changes in training"),
    ],
)
def test_what_has_no_rule_is_refused(lead: Lead, settings: dict[str, Any], network: Any, message: str) -> None:
    with pytest.raises(IncompatibleRecipeError, match=message):
        lead(federated("standard", clients=2, **settings), parts=PARTS, network=network)


def test_a_record_alone_in_a_batch_is_refused_before_training(lead: Lead) -> None:
    with pytest.raises(IncompatibleRecipeError, match="client 1 has 17 records"):
        lead(federated("standard", clients=2), parts=[np.arange(17), np.arange(17, 60)], network=Normed)


def test_statistics_that_are_too_large_say_what_helps(lead: Lead) -> None:
    with pytest.raises(Exception, match=r"batch-norm layer is .* scale the inputs"):
        lead(federated("standard", clients=2), parts=PARTS, x=ONES * np.float32(1e5), network=Normed)
