"""Filters over neighbouring words: padding never answers, and every record's gradient is exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from assay.data.base import Form
from assay.errors import SpecError
from assay.explain.base import ExplanationError
from assay.models.text_cnn import Sentences, TextCNN
from assay.privacy.clipping import PerRecordGradients
from assay.recipes import Privacy, Recipe, Training
from assay.registry import build
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests.explaining import deep_shap, integrated_gradients
from tests.mistakes import refused

LENGTHS = (9, 3, 0, 5, 1)


def sentences(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> Tensor:
    """Vectors (n, 9, 3), each sentence padded behind its own length."""
    x = torch.randn(len(lengths), 9, 3, generator=torch.Generator().manual_seed(seed))
    return x * (torch.arange(9) < torch.tensor(lengths)[:, None])[..., None]


def made(**settings: object) -> Sentences:
    model = TextCNN(**{"channels": 6, "dropout": 0.0, **settings}).build((9, 3), 2, seed=0)  # type: ignore[arg-type]
    assert isinstance(model, Sentences)
    return model


def by_hand(model: Sentences, sentence: Tensor) -> Tensor:
    """Every window of a sentence (length, 3) by itself, as Kim has it."""
    pooled = []
    for layer in model.filters:
        width = layer.kernel_size[0]  # type: ignore[union-attr, index]
        padded = torch.cat([sentence, torch.zeros(max(width - len(sentence), 0), 3)])
        windows = [padded[start : start + width].T.flatten() for start in range(len(padded) - width + 1)]
        weight = layer.weight.flatten(1)  # type: ignore[union-attr, operator]
        pooled.append(F.relu(torch.stack(windows) @ weight.T + layer.bias).amax(0))
    return model.head(torch.cat(pooled))


def test_it_answers_by_the_greatest_answer_of_each_filter() -> None:
    model, x = made(), sentences()
    expected = torch.stack([by_hand(model, x[i, :length]) for i, length in enumerate(LENGTHS)])
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4), places=st.lists(st.integers(0, 9), max_size=3))
def test_padding_anywhere_changes_nothing(lengths: list[int], places: list[int]) -> None:
    model, x = made(), sentences(tuple(lengths))
    with torch.no_grad():
        for layer in model.filters:
            layer.bias.add_(3.0)  # type: ignore[operator, union-attr]  # what padding would answer wins
    padded = x
    for place in places:
        padded = torch.cat([padded[:, :place], torch.zeros(len(x), 1, 3), padded[:, place:]], 1)
    torch.testing.assert_close(model(padded), model(x), rtol=0, atol=1e-5)
    alone = torch.stack([by_hand(model, x[i, :length]) for i, length in enumerate(lengths)])
    torch.testing.assert_close(model(padded), alone, rtol=0, atol=1e-5)


def test_a_sentence_shorter_than_every_filter_and_one_of_nothing_have_finite_gradients() -> None:
    model, x = made(), sentences((1, 0)).requires_grad_()
    logits = model(x)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *model.parameters()])


@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_the_clipped_sum_equals_a_loop_over_records(max_grad_norm: float) -> None:
    model, x, y = made(), sentences(), torch.tensor([0, 1, 0, 1, 1])
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for i in range(len(x)):
        gradient = torch.autograd.grad(F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), parameters)
        factor = min(1.0, max_grad_norm / float(torch.cat([g.flatten() for g in gradient]).norm()))
        total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
    gradients = PerRecordGradients(model)
    found = gradients.clipped_sum(F.cross_entropy(model(x), y, reduction="none"), max_grad_norm)
    for ours, expected in zip(found, total, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_it_trains_privately(given_noise: float) -> None:
    x, y = sentences((9, 5, 3, 2) * 20), torch.arange(80) % 2
    x[y == 1, 0] += 2
    recipe = Recipe(privacy=Privacy(epsilon=8.0), training=Training(epochs=5, batch_size=40, learning_rate=0.02))
    bounds = Bounds(low=torch.tensor(-9.0), high=torch.tensor(9.0), padding=True)
    trainer = build_trainer(made(dropout=0.1), recipe, x, y, bounds=bounds, seed=0)
    trainer.run()
    assert trainer.losses[-1] < trainer.losses[0]


def test_integrated_gradients_add_up_even_from_nothing() -> None:
    model, x = made().eval(), sentences((9, 3, 5, 1))
    found = integrated_gradients(model, x, torch.tensor([0, 1, 0, 1]), baseline=torch.zeros(1), points=200)
    assert found.error.max() < 0.02
    assert found.values.abs().flatten(1).amax(1).min() > 1e-2
    assert not found.values[x == 0].any()


def test_shap_cannot_follow_it_and_says_so() -> None:
    model = made().eval()
    with torch.no_grad():
        model.head.weight.mul_(10)
    with pytest.raises(ExplanationError, match="cannot explain this network"):
        deep_shap(model, sentences((9, 9)), torch.tensor([0, 1]), background=sentences((9, 9, 9), seed=1))


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, again, other = (TextCNN().build((9, 3), 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((30,), ("mlp",)), ((1, 28, 28), ("cnn", "resnet18"))],
)
def test_records_that_are_no_sentences_are_refused(shape: tuple[int, ...], fits: tuple[str, ...]) -> None:
    with refused(SpecError, "model", "text_cnn", fits):
        TextCNN().build(shape, 2, seed=0)


@pytest.mark.parametrize("widths", [[], [3, 0]])
def test_filters_that_see_nothing_are_refused(widths: list[int]) -> None:
    with refused(SpecError, "widths" if not widths else "widths.1"):
        build("model", {"name": "text_cnn", "widths": widths})


def test_signals_are_refused() -> None:
    with refused(SpecError, "model", "text_cnn", ("cnn", "lstm")):
        TextCNN().build_for(Form(shape=(2, 50), classes=2, modality="signal"), seed=0)
