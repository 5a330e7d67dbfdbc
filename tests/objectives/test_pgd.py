"""Adversarial training learns from the worst records within its threat model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import SpecError
from assay.objectives.base import Batch
from assay.objectives.pgd import AdversarialPGD
from assay.registry import build
from assay.threats import Bounds, Norm, Threat

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
MakeBatch = Callable[..., Batch]
OBJECTIVE = AdversarialPGD(epsilon=0.3, steps=5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_crafted_records_stay_in_the_threat_model(
    norm: Norm, blobs: Blobs, network: Network, blob_bounds: Bounds, batch_of: MakeBatch
) -> None:
    x, y = blobs(40, torch.float64)
    objective = AdversarialPGD(epsilon=0.3, norm=norm)
    crafted = objective.craft(network(torch.float64), batch_of(x, y))
    assert (Threat(norm=norm, epsilon=0.3, bounds=blob_bounds).distance(crafted, x) <= 0.3 + 1e-12).all()
    assert ((crafted >= blob_bounds.low) & (crafted <= blob_bounds.high)).all()


def test_crafted_records_of_a_linear_model_are_the_worst_corners(blobs: Blobs, batch_of: MakeBatch) -> None:
    x, y = blobs(20, torch.float64)
    model = nn.Linear(5, 2).double()
    wide = Bounds(low=torch.tensor(-99.0), high=torch.tensor(99.0))
    crafted = OBJECTIVE.craft(model, batch_of(x, y, bounds=wide))
    towards = (model.weight[1] - model.weight[0]).sign() * (1 - 2 * y[:, None])
    torch.testing.assert_close(crafted, (x + 0.3 * towards).detach())


def test_a_share_of_the_batch_is_crafted_as_in_the_whole(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10, torch.float64)
    rows = np.array([1, 4, 7])
    model = network(torch.float64)
    whole = OBJECTIVE.craft(model, batch_of(x, y))
    share = OBJECTIVE.craft(model, batch_of(x[rows], y[rows], total=10, rows=rows))
    torch.testing.assert_close(share, whole[rows], rtol=0, atol=1e-12)


def test_losses_are_those_of_the_crafted_records(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10)
    losses = OBJECTIVE.losses(network(), batch_of(x, y), x + 0.1)
    torch.testing.assert_close(losses, F.cross_entropy(network()(x + 0.1), y, reduction="none"))
    assert losses.shape == (10,)


def test_the_loss_of_a_record_depends_on_no_other(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10, torch.float64)
    model = network(torch.float64)
    other = x.clone()
    other[1:] = other[1:].flip(1)
    one, changed = (OBJECTIVE.craft(model, batch_of(given, y)) for given in (x, other))
    torch.testing.assert_close(one[0], changed[0], rtol=0, atol=1e-12)
    assert OBJECTIVE.per_record


def test_crafting_leaves_no_gradient_and_no_graph(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10)
    model = network()
    crafted = OBJECTIVE.craft(model, batch_of(x, y))
    assert not crafted.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, blobs(10)[0])


@pytest.mark.parametrize("given", [{}, {"epsilon": 0}, {"epsilon": 1, "steps": 0}, {"epsilon": 1, "norm": "l1"}])
def test_impossible_settings_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="objective 'pgd'"):
        build("objective", {"name": "pgd", **given})
