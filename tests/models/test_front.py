"""The first layer is what the data ask for, and numbers that an attack moves pass it."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Form, Normalisation, Tokens
from assay.models.front import behind, continuous, front_of, vector_bounds, word_vectors
from assay.models.mlp import MLP

VECTORS = np.array([[0, 0], [1, -2], [3, 4]], np.float32)
TOKENS = Tokens(words=("", "<unknown>", "fine"), vectors=VECTORS, trainable=True)


@pytest.mark.parametrize("shape", [(2, 5, 5), (2, 9)])
def test_channels_are_normalised_by_their_published_figures(shape: tuple[int, ...]) -> None:
    front = front_of(Form(shape=shape, classes=2, normalisation=Normalisation(mean=(1.0, 3.0), deviation=(2.0, 4.0))))
    assert front is not None
    seen = front(torch.full((1, *shape), 5.0))
    assert seen[0, 0].unique().tolist() == [2.0]
    assert seen[0, 1].unique().tolist() == [0.5]
    assert list(front.parameters()) == []


def test_records_that_ask_for_nothing_have_no_first_layer() -> None:
    form = Form(shape=(4,), classes=2)
    assert front_of(form) is None
    assert isinstance(MLP().build_for(form, seed=0), nn.Sequential)
    assert not hasattr(MLP().build_for(form, seed=0), "front")


def test_words_become_their_vectors_and_vectors_pass() -> None:
    front = front_of(Form(shape=(3,), classes=2, tokens=TOKENS))
    assert front is not None
    seen = front(torch.tensor([[2, 1, 0]]))
    assert seen.tolist() == [[[3, 4], [1, -2], [0, 0]]]
    assert torch.equal(front(seen), seen)


def test_a_network_sees_one_vector_a_word() -> None:
    form = Form(shape=(3,), classes=2, tokens=TOKENS)
    assert form.network_shape == (3, 2)
    network = MLP(hidden=(4,)).build_for(form, seed=0)
    x = torch.tensor([[2, 1, 0], [1, 1, 1]])
    assert torch.equal(network(x), network(continuous(network, x)))


@pytest.mark.parametrize("trainable", [True, False])
def test_vectors_move_only_where_they_may_and_padding_never_does(trainable: bool) -> None:
    tokens = Tokens(words=TOKENS.words, vectors=VECTORS.copy(), trainable=trainable)
    network = behind(front_of(Form(shape=(3,), classes=2, tokens=tokens)), nn.Sequential(nn.Flatten(), nn.Linear(6, 2)))
    table = word_vectors(network)
    assert table is not None and table.requires_grad == trainable
    network(torch.tensor([[2, 1, 0]])).sum().backward()
    if trainable:
        assert table.grad is not None
        assert table.grad[1:].abs().sum() > 0
        assert not table.grad[0].any()


def test_bounds_hold_every_vector_and_padding_and_no_room_beside() -> None:
    bounds = vector_bounds(torch.from_numpy(VECTORS))
    assert bounds.padding
    torch.testing.assert_close(bounds.low, torch.tensor([0.0, -2.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(bounds.high, torch.tensor([3.0, 4.0]), atol=1e-5, rtol=0)
    assert (bounds.low < bounds.high).all()
