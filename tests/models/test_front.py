"""What a data set asks for is the first layer of every network on it."""

import numpy as np
import pytest
import torch

from assay.data.base import Form, Normalisation, Tokens
from assay.models.front import (
    Normalise,
    WordVectors,
    behind,
    continuous,
    front_of,
    vector_bounds,
    word_vectors,
)
from assay.models.lstm import LSTM
from assay.models.mlp import MLP

FIGURES = Normalisation(mean=(0.5, 0.25), deviation=(0.5, 0.125))


def tokens(*, trainable: bool = False) -> Tokens:
    vectors = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    vectors[0] = 0
    return Tokens(words=("", "?", *"abcde"), vectors=vectors, trainable=trainable)


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 4, 6)])
def test_each_channel_is_normalised_by_its_own_figures(shape: tuple[int, ...]) -> None:
    x = torch.rand(3, *shape)
    found = Normalise(FIGURES, shape)(x)
    for channel, (mean, deviation) in enumerate(zip(FIGURES.mean, FIGURES.deviation, strict=True)):
        torch.testing.assert_close(found[:, channel], (x[:, channel] - mean) / deviation)


def test_one_figure_is_for_all_channels() -> None:
    x = torch.rand(3, 4, 5)
    found = Normalise(Normalisation(mean=(0.5,), deviation=(2.0,)), (4, 5))(x)
    torch.testing.assert_close(found, (x - 0.5) / 2)


def test_figures_travel_with_the_weights_and_are_not_trained() -> None:
    layer = Normalise(FIGURES, (2, 3))
    assert set(layer.state_dict()) == {"mean", "deviation"}
    assert not list(layer.parameters())


@pytest.mark.parametrize("shape", [(2,), (2, 4, 6)])
def test_a_network_sees_normalised_records_and_is_given_raw_ones(shape: tuple[int, ...]) -> None:
    form = Form(shape=shape, classes=3, normalisation=FIGURES)
    model, bare = MLP().build_for(form, seed=1), MLP().build(shape, 3, seed=1)
    x = torch.rand(5, *shape)
    assert torch.equal(model(x), bare(Normalise(FIGURES, shape)(x)))


@pytest.mark.parametrize("trainable", [False, True])
def test_a_network_that_learns_leaves_the_vectors_of_the_data_alone(trainable: bool) -> None:
    """Else whatever is trained next on these data, privately perhaps, would begin with what this one has learnt."""
    form = Form(shape=(5,), classes=2, tokens=tokens(trainable=trainable), modality="text")
    first = LSTM(hidden=2).build_for(form, seed=0)
    with torch.no_grad():
        for weight in first.parameters():
            weight.add_(1)
    assert form.tokens is not None
    assert np.array_equal(form.tokens.vectors, tokens().vectors)
    assert torch.equal(word_vectors(LSTM(hidden=2).build_for(form, seed=0)), torch.from_numpy(tokens().vectors))


def test_without_figures_or_words_there_is_no_first_layer() -> None:
    form = Form(shape=(4,), classes=2)
    assert front_of(form) is None
    bare = MLP().build((4,), 2, seed=0)
    assert behind(None, bare) is bare
    assert list(MLP().build_for(form, seed=0).state_dict()) == list(bare.state_dict())


def test_positions_become_vectors_and_vectors_pass() -> None:
    words = tokens()
    layer = WordVectors(words)
    x = torch.tensor([[2, 6, 0], [1, 0, 0]], dtype=torch.int32)
    vectors = layer(x)
    assert torch.equal(vectors, torch.from_numpy(words.vectors)[x.long()])
    assert layer(vectors) is vectors


@pytest.mark.parametrize("trainable", [True, False])
def test_training_moves_the_vectors_where_it_may_and_padding_never(trainable: bool) -> None:
    model = LSTM(hidden=4).build_for(Form(shape=(5,), classes=2, tokens=tokens(trainable=trainable)), seed=0)
    before = word_vectors(model)
    assert before is not None
    before = before.detach().clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.tensor([[2, 3, 0, 0, 0], [4, 0, 0, 0, 0]])).square().sum().backward()
        optimizer.step()
    after = word_vectors(model)
    assert after is not None
    assert bool((after != before).any()) == trainable
    assert torch.equal(after[0], torch.zeros(3))


def test_padding_is_nothing_whatever_its_vector_has_become() -> None:
    """Private noise moves every vector, that of padding too."""
    layer = WordVectors(tokens(trainable=True))
    with torch.no_grad():
        layer.table.weight.add_(1.0)
    vectors = layer(torch.tensor([[2, 0, 3]]))
    assert not vectors[0, 1].any()
    assert torch.equal(vectors[0, [0, 2]], layer.table.weight[[2, 3]])


def test_the_network_behind_words_is_built_for_vectors() -> None:
    form = Form(shape=(5,), classes=2, tokens=tokens())
    assert form.network_shape == (5, 3)
    model, positions = LSTM(hidden=4).build_for(form, seed=0).eval(), torch.tensor([[2, 3, 0, 0, 0]])
    vectors = continuous(model, positions)
    assert vectors.shape == (1, 5, 3)
    assert torch.equal(model(positions), model(vectors))
    assert continuous(model, vectors) is vectors


def test_the_vectors_of_a_vocabulary_are_valid_and_padding_stays_padding() -> None:
    vectors = torch.from_numpy(tokens().vectors)
    bounds = vector_bounds(vectors)
    assert torch.equal(bounds.clip(vectors), vectors)
    positions = vectors[torch.tensor([[3, 4, 0]])]
    moved = bounds.confine(positions + 100, positions)
    assert torch.equal(moved[0, 2], torch.zeros(3))
    assert torch.equal(moved[0, 0], bounds.high)


def test_only_a_network_that_begins_with_words_has_word_vectors() -> None:
    assert word_vectors(MLP().build((3,), 2, seed=0)) is None
    assert word_vectors(MLP().build_for(Form(shape=(2,), classes=2, normalisation=FIGURES), seed=0)) is None
