"""TRADES against the formula of its paper, and its examples against the corner that is worst."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.objectives.base import Batch
from assay.objectives.standard import Standard
from assay.objectives.trades import Trades
from assay.privacy.clipping import PerRecordGradients
from assay.recipes import Privacy, Recipe
from assay.threats import Bounds, Norm, Threat

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
MakeBatch = Callable[..., Batch]
WIDE = Bounds(low=torch.tensor(-99.0), high=torch.tensor(99.0))


def softmax(logits: Tensor) -> np.ndarray:
    exponential = np.exp(logits.detach().double().numpy())
    return exponential / exponential.sum(1, keepdims=True)


def test_losses_are_cross_entropy_plus_the_weighted_divergence(
    blobs: Blobs, network: Network, batch_of: MakeBatch
) -> None:
    x, y = blobs(12)
    model, crafted = network(), x + 0.4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    p, q = softmax(model(x)), softmax(model(crafted))
    expected = -np.log(p[np.arange(12), y]) + 2.5 * (p * np.log(p / q)).sum(1)
    found = Trades(epsilon=0.3, beta=2.5).losses(model, batch_of(x, y), crafted)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4)


def test_without_its_weight_it_is_standard_training(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    batch = batch_of(*blobs(12))
    found = Trades(epsilon=0.3, beta=0).losses(network(), batch, batch.x + 1)
    torch.testing.assert_close(found, Standard().losses(network(), batch, batch.x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_crafted_records_stay_in_the_threat_model(
    norm: Norm, blobs: Blobs, network: Network, blob_bounds: Bounds, batch_of: MakeBatch
) -> None:
    x, y = blobs(40, torch.float64)
    crafted = Trades(epsilon=0.3, norm=norm).craft(network(torch.float64), batch_of(x, y))
    distance = Threat(norm=norm, epsilon=0.3, bounds=blob_bounds).distance(crafted, x)
    assert (distance <= 0.3 + 1e-12).all()
    assert distance.median() > 0.29
    assert ((crafted >= blob_bounds.low) & (crafted <= blob_bounds.high)).all()


def test_examples_of_a_linear_model_are_corners_where_its_answer_is_moved_most(
    blobs: Blobs, batch_of: MakeBatch
) -> None:
    x, y = blobs(30, torch.float64)
    model = nn.Linear(5, 2).double()
    corner = 0.3 * (model.weight[1] - model.weight[0]).sign()
    change = Trades(epsilon=0.3).craft(model, batch_of(x, y, bounds=WIDE)) - x
    up = change @ corner > 0
    torch.testing.assert_close(change, torch.where(up[:, None], corner, -corner).detach())

    def moved(by: Tensor) -> np.ndarray:
        p, q = softmax(model(x)), softmax(model(x + by))
        return (p * np.log(p / q)).sum(1)

    # Of the two corners the divergence is a hill on either side of the record: nearly always the higher is climbed.
    assert moved(change).mean() > 0.9 * np.maximum(moved(corner), moved(-corner)).mean()


def test_examples_need_no_label(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(12)
    one, other = (Trades(epsilon=0.3).craft(network(), batch_of(x, labels)) for labels in (y, 1 - y))
    assert torch.equal(one, other)


def test_a_share_of_the_batch_is_crafted_as_in_the_whole(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10, torch.float64)
    rows, model = np.array([1, 4, 7]), network(torch.float64)
    whole = Trades(epsilon=0.3).craft(model, batch_of(x, y))
    share = Trades(epsilon=0.3).craft(model, batch_of(x[rows], y[rows], total=10, rows=rows))
    torch.testing.assert_close(share, whole[rows], rtol=0, atol=1e-12)


NETWORKS = {"mlp": (MLP(hidden=(6,)), (5,)), "cnn": (CNN(channels=(3, 4), hidden=6), (1, 8, 8))}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_private_gradient_clips_both_answers_to_a_record_together(name: str, batch_of: MakeBatch) -> None:
    architecture, shape = NETWORKS[name]
    model = architecture.build(shape, 2, seed=3)
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    y, objective, most = torch.arange(6) % 2, Trades(epsilon=0.5, beta=6.0), 1.0
    hooks = PerRecordGradients(model)
    with hooks.paused():
        crafted = objective.craft(model, batch_of(x, y, bounds=WIDE))
    clipped = hooks.clipped_sum(objective.losses(model, batch_of(x, y, bounds=WIDE), crafted), most)
    hooks.remove()

    expected, norms = [torch.zeros_like(p) for p in model.parameters()], []
    for row in range(6):
        one = slice(row, row + 1)
        loss = objective.losses(model, batch_of(x[one], y[one], bounds=WIDE), crafted[one])
        gradient = torch.autograd.grad(loss.sum(), list(model.parameters()))
        norms.append(float(torch.cat([g.flatten() for g in gradient]).norm()))
        expected = [e + g * min(1.0, most / norms[-1]) for e, g in zip(expected, gradient, strict=True)]
    assert min(norms) < most < max(norms), "some gradients are clipped and some are not"
    for ours, theirs in zip(clipped, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_it_combines_with_privacy() -> None:
    recipe = Recipe(objective={"name": "trades", "epsilon": 0.1}, privacy=Privacy(epsilon=1.0))
    assert recipe.objective == Trades(epsilon=0.1)
