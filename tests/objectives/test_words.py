"""Adversarial objectives move the vectors of words, and learnt vectors still learn."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Form, Tokens
from assay.models.front import behind, continuous, front_of, word_vectors
from assay.objectives.base import Batch, Objective
from assay.privacy.clipping import PerRecordGradients
from assay.registry import build
from assay.seeds import Draw
from assay.threats import Bounds

X = torch.tensor([[2, 3, 0], [4, 1, 2], [3, 0, 0]])
Y = torch.tensor([0, 1, 0])


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.last(vectors.tanh().mean(1))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    vectors[0] = 0
    tokens = Tokens(words=("", "<unknown>", "a", "b", "c"), vectors=vectors, trainable=True)
    return behind(front_of(Form(shape=(3,), classes=2, tokens=tokens)), Bag())


def batch() -> Batch:
    bounds = Bounds(low=torch.zeros(1), high=torch.full((1,), 5.0), padding=True)
    return Batch(x=X, y=Y, bounds=bounds, draw=Draw(np.random.default_rng(0), total=3))


@pytest.fixture(params=["pgd", "fast", "trades"])
def objective(request: pytest.FixtureRequest) -> Objective:
    return build("objective", {"name": request.param, "epsilon": 0.1})  # type: ignore[return-value]


def test_vectors_move_by_at_most_epsilon_and_padding_does_not(objective: Objective, model: nn.Module) -> None:
    start = continuous(model, X).detach()
    crafted = objective.craft(model, batch())
    assert crafted.shape == (3, 3, 4)
    change = (crafted - start).abs()
    assert 0.01 < float(change.max()) <= 0.1 + 1e-6
    assert not change[X == 0].any()


crossed = pytest.mark.parametrize("objective", ["pgd", "fast"], indirect=True)


@crossed
def test_the_loss_is_that_of_the_moved_vectors(objective: Objective, model: nn.Module) -> None:
    crafted = objective.craft(model, batch())
    losses = objective.losses(model, batch(), crafted)
    torch.testing.assert_close(losses, nn.functional.cross_entropy(model(crafted), Y, reduction="none"))


@crossed
def test_learnt_vectors_have_the_gradient_of_the_moved_ones(objective: Objective, model: nn.Module) -> None:
    crafted = objective.craft(model, batch())
    table = word_vectors(model)
    objective.losses(model, batch(), crafted).sum().backward()
    leaf = crafted.clone().requires_grad_(True)
    nn.functional.cross_entropy(model(leaf), Y, reduction="sum").backward()
    expected = torch.zeros_like(table).index_add(0, X.flatten(), leaf.grad.flatten(0, 1))
    expected[0] = 0
    torch.testing.assert_close(table.grad, expected)


def test_trades_teaches_the_vectors_by_the_record_and_by_its_example(model: nn.Module) -> None:
    objective = build("objective", {"name": "trades", "epsilon": 0.1, "beta": 3.0})
    crafted = objective.craft(model, batch())
    table = word_vectors(model)
    objective.losses(model, batch(), crafted).sum().backward()
    clean, moved = (given.clone().requires_grad_(True) for given in (continuous(model, X).detach(), crafted))
    p, q = model(clean).log_softmax(1), model(moved).log_softmax(1)
    (nn.functional.nll_loss(p, Y, reduction="sum") + 3.0 * (p.exp() * (p - q)).sum()).backward()
    expected = torch.zeros_like(table).index_add(0, X.flatten(), (clean.grad + moved.grad).flatten(0, 1))
    expected[0] = 0
    torch.testing.assert_close(table.grad, expected)


def test_one_gradient_a_record_holds_the_vectors_too(objective: Objective, model: nn.Module) -> None:
    hooks = PerRecordGradients(model)
    with hooks.paused():
        crafted = objective.craft(model, batch())
    clipped = hooks.clipped_sum(objective.losses(model, batch(), crafted), 1e9)
    hooks.remove()
    objective.losses(model, batch(), crafted).sum().backward()
    for ours, parameter in zip(clipped, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)
