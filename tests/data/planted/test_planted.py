"""Planted sets: the same at every call, learnt by the networks of the tree, and their truth is what the class is."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.data.planted.base import Planted
from assay.data.planted.ecg import PlantedECG
from assay.data.planted.images import PlantedImages
from assay.data.planted.sentences import BLAME, NEGATIONS, PRAISE, PlantedSentences
from assay.data.planted.table import COEFFICIENTS, PlantedTable
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.training.build import build_trainer

SOURCES: list[Planted] = [
    PlantedTable(),
    PlantedTable(interaction=1.5),
    PlantedImages(),
    PlantedECG(),
    PlantedECG(change="wide_qrs"),
    PlantedECG(change="st_elevation"),
    PlantedSentences(),
]
IDS = [f"{source.name} {getattr(source, 'change', getattr(source, 'interaction', ''))}" for source in SOURCES]


def learnt(source: Planted, model: Any, *, epochs: int, learning_rate: float) -> tuple[nn.Module, Dataset, np.ndarray]:
    """A network that is trained for a moment on four fifths of the records; the prepared data; the other rows."""
    train, test = np.arange(0, source.size * 4 // 5), np.arange(source.size * 4 // 5, source.size)
    data = source.load().prepared(train, seed=0)
    network = build("model", model).build_for(data.form, seed=0)  # type: ignore[attr-defined]
    recipe = Recipe(training=Training(epochs=epochs, learning_rate=learning_rate, batch_size=32))
    x, y = torch.from_numpy(data.x[train]), torch.from_numpy(data.y[train])
    build_trainer(network, recipe, x, y, bounds=data.bounds, classes=2, seed=0).run()
    return network.eval(), data, test


@pytest.mark.parametrize(
    ("source", "model", "epochs", "learning_rate"),
    [
        (PlantedTable(), {"name": "mlp", "hidden": (32,)}, 15, 0.005),
        (PlantedTable(interaction=1.5), {"name": "mlp", "hidden": (32,)}, 15, 0.005),
        (PlantedImages(), {"name": "cnn", "channels": (8, 16)}, 8, 0.003),
        (PlantedECG(), {"name": "cnn", "channels": (8, 16)}, 3, 0.005),
        (PlantedECG(change="wide_qrs"), {"name": "cnn", "channels": (8, 16)}, 3, 0.005),
        (PlantedECG(change="st_elevation"), {"name": "cnn", "channels": (8, 16)}, 3, 0.005),
        (PlantedECG(), {"name": "lstm", "hidden": 8}, 3, 0.02),
        (PlantedSentences(), {"name": "lstm", "hidden": 16}, 5, 0.01),
        (PlantedSentences(), {"name": "text_cnn", "channels": 16}, 5, 0.01),
    ],
)
def test_networks_learn_it_in_a_moment(source: Planted, model: Any, epochs: int, learning_rate: float) -> None:
    network, data, test = learnt(source, model, epochs=epochs, learning_rate=learning_rate)
    with torch.no_grad():
        answers = network(torch.from_numpy(data.x[test])).argmax(1).numpy()
    assert (answers == data.y[test]).mean() >= 0.95


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_a_draw_is_the_same_at_every_call_and_another_one_is_not(source: Planted) -> None:
    again, other = source.model_copy(), source.model_copy(update={"draw": 1})
    assert source.load().digest == again.load().digest != other.load().digest
    np.testing.assert_array_equal(source.truth(), again.truth())


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_the_truth_has_the_shape_of_the_features_and_is_smaller_than_half(source: Planted) -> None:
    data, truth = source.load(), source.truth()
    assert truth.dtype == bool
    assert truth.shape == ((*data.x.shape, 1) if data.modality == "text" else data.x.shape)
    rows = np.array([5, 3])
    np.testing.assert_array_equal(source.truth(rows), truth[rows])
    assert 0 < truth[data.y == 1].mean() < 0.5
    assert abs(data.y.mean() - 0.5) < 0.1
    assert not data.owes or data.modality == "text", "nothing is learnt from the records, unless it is words"


def test_the_class_of_a_table_is_the_sign_of_its_attributions() -> None:
    for source in (PlantedTable(), PlantedTable(interaction=1.5)):
        data, values, truth = source.load(), source.attributions(), source.truth()
        np.testing.assert_array_equal(data.y, values.sum(1) > 0)
        np.testing.assert_array_equal((values != 0).any(0), truth[0])
    linear = PlantedTable().attributions() / PlantedTable().load().x
    np.testing.assert_allclose(sorted(linear.mean(0)[truth[0]]), sorted(COEFFICIENTS), rtol=1e-5)


def test_attributions_of_an_interaction_are_shapley_values_of_the_score() -> None:
    plain, joint = PlantedTable(size=20, draw=3), PlantedTable(size=20, draw=3, interaction=2.0)
    x, values = joint.load().x.astype(np.float64), joint.attributions()
    columns = [int(np.flatnonzero(np.isclose(plain.attributions()[0] / plain.load().x[0], c))[0]) for c in COEFFICIENTS]
    first, second = columns[:2]
    np.testing.assert_allclose(values[:, first], 2.0 * x[:, first] + x[:, first] * x[:, second], rtol=1e-5)
    np.testing.assert_allclose(values[:, second], -1.5 * x[:, second] + x[:, first] * x[:, second], rtol=1e-5)


def test_distractors_are_correlated_with_their_features_and_enter_no_score() -> None:
    source = PlantedTable(size=4000)
    truth = source.truth()[0]
    correlation = np.abs(np.corrcoef(source.load().x.T)[~truth][:, truth]).max(1)
    assert ((correlation > 0.5).sum(), (correlation < 0.2).sum()) == (10, 5)


def test_an_image_differs_from_its_clear_twin_by_a_spot_on_the_truth() -> None:
    source = PlantedImages(size=400)
    data, truth = source.load(), source.truth()
    assert not truth[data.y == 0].any()
    assert truth[data.y == 1].any((1, 2, 3)).all()
    weak = source.model_copy(update={"opacity": 0.2}).load()
    change = (data.x - weak.x)[data.y == 1]
    inside = truth[data.y == 1]
    assert change[inside].mean() > 10 * np.abs(change[~inside]).mean()
    assert np.abs((data.x - weak.x)[data.y == 0]).max() < 1e-6
    means = data.x.mean((1, 2, 3))
    assert abs(means[data.y == 1].mean() - means[data.y == 0].mean()) < 0.02, "brightness tells nothing"


@pytest.mark.parametrize("change", ["inverted_t", "wide_qrs", "st_elevation"])
def test_beats_of_the_classes_differ_within_the_truth(change: Any) -> None:
    source = PlantedECG(size=2000, change=change)
    data, truth = source.load(), source.truth()
    apart = np.abs(data.x[data.y == 1].mean(0) - data.x[data.y == 0].mean(0))[0]
    within = truth.mean((0, 1)) > 0.5
    assert apart[within].max() > 0.12
    assert apart[~within & (truth.mean((0, 1)) == 0)].max() < 0.03


def test_the_truth_of_a_sentence_is_its_word_of_praise_or_blame_and_its_negation() -> None:
    source = PlantedSentences(size=200)
    data, truth = source.load(), source.truth()
    for row in range(200):
        words = [data.words[place] for place in data.x[row] if place]
        planted = [word for word, true in zip(words, truth[row, :, 0], strict=False) if true]
        *negation, word = planted
        assert set(negation) <= set(NEGATIONS)
        assert len(negation) <= 1
        assert not {w for w, t in zip(words, truth[row, :, 0], strict=False) if not t} & {*PRAISE, *BLAME, *NEGATIONS}
        assert data.class_names[data.y[row]] == ("praise" if (word in PRAISE) != bool(negation) else "blame")
