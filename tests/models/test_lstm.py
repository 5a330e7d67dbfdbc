"""The LSTM is torch's, reads no padding, and every record's gradient is exact."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay.data.base import Form, Tokens
from assay.errors import SpecError
from assay.explain.base import ExplanationError
from assay.models.front import vector_bounds
from assay.models.lstm import LSTM, Layer, Recurrent
from assay.privacy.clipping import PerRecordGradients
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests.explaining import deep_shap, integrated_gradients
from tests.mistakes import refused

PLAIN = LSTM(hidden=5, dropout=0.0)
VARIANTS = {
    "plain": PLAIN,
    "one direction": PLAIN.model_copy(update={"bidirectional": False}),
    "two layers": PLAIN.model_copy(update={"layers": 2}),
    "attention": PLAIN.model_copy(update={"attention": True}),
    "attention over two layers": PLAIN.model_copy(update={"attention": True, "layers": 2}),
}
every_variant = pytest.mark.parametrize("architecture", VARIANTS.values(), ids=VARIANTS)
LISTENING = pytest.mark.parametrize("listening", [False, True], ids=["fused", "listened to"])
LENGTHS = (7, 2, 0, 5, 1)
DIMENSION = 3


def sentences(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Vectors (n, 7, 3), each sentence padded behind its own length."""
    x = torch.randn(len(lengths), 7, DIMENSION, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x * (torch.arange(7) < torch.tensor(lengths)[:, None])[..., None]


def made(architecture: LSTM, *, dtype: torch.dtype = torch.float32, listening: bool = False) -> Recurrent:
    """The network; with a hook at every layer it takes the way of private training."""
    model = architecture.build((7, DIMENSION), 2, seed=0)
    assert isinstance(model, Recurrent)
    for layer in model.modules() if listening else ():
        layer.register_forward_hook(lambda layer, given, made: None)
    return model.to(dtype)


def fused(model: Recurrent) -> nn.LSTM:
    """Torch's own LSTM with the very same weights."""
    first = model.layers[0]
    assert isinstance(first, Layer)
    directions, layers = len(first.directions), len(model.layers)
    other = nn.LSTM(DIMENSION, 5, layers, batch_first=True, bidirectional=directions == 2).to(torch.float64)
    for place, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        for direction, end in zip(layer.directions, ("", "_reverse"), strict=False):
            given = direction.state_dict()
            other.load_state_dict(
                {
                    **other.state_dict(),
                    f"weight_ih_l{place}{end}": given["input.weight"],
                    f"weight_hh_l{place}{end}": given["recurrent.weight"],
                    f"bias_ih_l{place}{end}": given["input.bias"],
                    f"bias_hh_l{place}{end}": torch.zeros_like(given["input.bias"]),
                }
            )
    return other


@every_variant
@LISTENING
def test_states_and_gradients_are_those_of_torchs_own(architecture: LSTM, listening: bool) -> None:
    model = made(architecture, dtype=torch.float64, listening=listening)
    other = fused(model)
    lengths = (7, 2, 5, 1)
    ours, theirs = (sentences(lengths, dtype=torch.float64).requires_grad_() for _ in range(2))
    found, _ = model._states(ours)
    packed = nn.utils.rnn.pack_padded_sequence(theirs, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(other(packed)[0], batch_first=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
    for place, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        for direction, end in zip(layer.directions, ("", "_reverse"), strict=False):
            for ours_name, theirs_name in (("input.weight", "ih"), ("recurrent.weight", "hh")):
                gradient = direction.get_parameter(ours_name).grad
                expected_gradient = other.get_parameter(f"weight_{theirs_name}_l{place}{end}").grad
                torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


@LISTENING
def test_the_gradient_is_the_slope_of_the_answer(listening: bool) -> None:
    architecture = VARIANTS["attention over two layers"].model_copy(update={"hidden": 2})
    model = made(architecture, dtype=torch.float64, listening=listening)
    names = dict(model.named_parameters())
    values = tuple(parameter.detach().clone().requires_grad_() for parameter in names.values())
    x = sentences((3, 2), dtype=torch.float64)[:, :3]

    def answer(*weights: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(answer, values)


@every_variant
def test_answers_and_gradients_do_not_depend_on_who_listens_and_what_is_wanted(architecture: LSTM) -> None:
    model, heard, x = made(architecture), made(architecture, listening=True), sentences()
    expected = model(x)
    slopes = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    for network in (model, heard):
        with torch.no_grad():
            torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-6)
        for training in (True, False):
            found = network.train(training)(x)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
            for pair in zip(torch.autograd.grad(found.square().sum(), list(network.parameters())), slopes, strict=True):
                torch.testing.assert_close(*pair, rtol=0, atol=1e-6)


def test_a_hook_at_a_layer_sees_every_position_once() -> None:
    model, x, seen = made(PLAIN), sentences((7, 5)), []
    direction = model.get_submodule("layers.0.directions.1")
    for name in ("input", "recurrent"):
        direction.get_submodule(name).register_forward_hook(lambda layer, given, made: seen.append(given[0].shape))
    model(x)
    assert seen == [(2, 7, DIMENSION), (2, 7, 5)]


def test_paused_hooks_do_not_keep_the_fused_kernel_away(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, heard = made(PLAIN), sentences(), []
    monkeypatch.setattr(Layer, "_heard", lambda self, x, kept: heard.append(1) or self._fused(x, kept))
    gradients = PerRecordGradients(model)
    with gradients.paused():
        model(x)
    assert not heard
    model(x)
    assert heard


@every_variant
@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_the_clipped_sum_equals_a_loop_over_records(architecture: LSTM, max_grad_norm: float) -> None:
    model, x, y = made(architecture), sentences(), torch.tensor([0, 1, 0, 1, 1])
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for i in range(len(x)):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        gradient = torch.autograd.grad(loss, parameters)
        factor = min(1.0, max_grad_norm / float(torch.cat([g.flatten() for g in gradient]).norm()))
        total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
    gradients = PerRecordGradients(model)
    found = gradients.clipped_sum(F.cross_entropy(model(x), y, reduction="none"), max_grad_norm)
    for ours, expected in zip(found, total, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@every_variant
@LISTENING
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4), places=st.lists(st.integers(0, 7), max_size=3))
def test_padding_anywhere_changes_nothing(
    architecture: LSTM, listening: bool, lengths: list[int], places: list[int]
) -> None:
    model, x = made(architecture, listening=listening).eval(), sentences(tuple(lengths))
    padded = x
    for place in places:
        padded = torch.cat([padded[:, :place], torch.zeros(len(x), 1, DIMENSION), padded[:, place:]], 1)
    alone = torch.cat([model(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(model(padded), alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(x), alone, rtol=0, atol=1e-6)


@every_variant
@LISTENING
def test_a_sentence_of_nothing_has_finite_logits_and_gradients(architecture: LSTM, listening: bool) -> None:
    model, x = made(architecture, listening=listening), torch.zeros(2, 7, DIMENSION, requires_grad=True)
    logits = model(x)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [x, *model.parameters()])
    assert torch.equal(logits[0], logits[1])


@every_variant
@LISTENING
def test_nothing_flows_back_to_padding(architecture: LSTM, listening: bool) -> None:
    model, x = made(architecture, listening=listening), sentences((4, 7)).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    assert not x.grad[0, 4:].any()
    assert x.grad[0, :3].abs().amax(1).min() > 0


def test_both_ends_of_a_sentence_are_read() -> None:
    model, x = made(PLAIN), sentences((5,))
    states, _ = model._states(x)
    for place, half, touched in ((4, slice(0, 5), False), (4, slice(5, 10), True), (0, slice(0, 5), True)):
        other = x.clone()
        other[:, place] += 1
        changed = (model._states(other)[0] - states).abs()[0, 4 - place, half].max() > 1e-4
        assert bool(changed) == touched


@pytest.mark.parametrize("architecture", [VARIANTS["attention"], VARIANTS["attention over two layers"]])
def test_attention_lies_on_words_only_and_sums_to_one(architecture: LSTM) -> None:
    model, x = made(architecture), sentences()
    x[0, 2] = 0  # a hole
    weights = model.attention_weights(x)
    kept = (x != 0).any(-1)
    assert weights.shape == x.shape[:2]
    assert not weights[~kept].any()
    assert (weights[kept] > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))


def test_attention_is_what_pools() -> None:
    model, x = made(VARIANTS["attention"]), sentences((7, 5))
    states, _ = model._states(x)
    pooled = torch.einsum("nl,nlw->nw", model.attention_weights(x), states)
    torch.testing.assert_close(model.head(pooled), model(x))


def test_without_attention_there_are_no_weights_of_it() -> None:
    with refused(SpecError, "attention", False, True):
        made(PLAIN).attention_weights(sentences())


def test_a_signal_is_a_sequence_of_samples_and_its_zeros_are_values() -> None:
    signals = LSTM(hidden=5, channels_first=True, attention=True).build((DIMENSION, 7), 2, seed=0).eval()
    vectors = LSTM(hidden=5, attention=True).build((7, DIMENSION), 2, seed=0).eval()
    x = sentences((7, 7))
    torch.testing.assert_close(signals(x.transpose(1, 2)), vectors(x))
    x[:, 5:] = 0
    assert (signals(x.transpose(1, 2)) - vectors(x)).abs().max() > 1e-4
    assert isinstance(signals, Recurrent)
    torch.testing.assert_close(signals.attention_weights(x.transpose(1, 2)).sum(1), torch.ones(2))


def test_dropout_acts_in_training_only_on_all_that_a_layer_is_given() -> None:
    model, x = made(LSTM(hidden=5, layers=2, dropout=0.5)), sentences()
    drops = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert len(drops) == 3
    torch.manual_seed(0)
    for acting in drops:
        for layer in drops:
            layer.p = 0.5 if layer is acting else 0.0
        assert not torch.equal(model.train()(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, again, other = (LSTM(hidden=4).build((7, 3), 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((30,), ("mlp",)), ((1, 28, 28), ("cnn", "resnet18"))],
)
def test_records_that_are_no_sequences_are_refused(shape: tuple[int, ...], fits: tuple[str, ...]) -> None:
    with refused(SpecError, "model", "lstm", fits):
        LSTM().build(shape, 2, seed=0)


@every_variant
def test_integrated_gradients_add_up(architecture: LSTM) -> None:
    """From words without a meaning: at nothing itself the network would read a sentence of no length."""
    model, x = made(architecture).eval(), sentences((7, 2, 5, 1))
    held = (x != 0).any(-1, keepdim=True)
    found = integrated_gradients(
        model, x, torch.tensor([0, 1, 0, 1]), baseline=torch.zeros(1), points=243, modality="text"
    )
    assert found.error.max() < 0.02
    assert found.values.abs().flatten(1).amax(1).min() > 1e-3
    assert not found.values[~held.expand_as(x)].any()


def test_shap_cannot_follow_it_and_says_so() -> None:
    model, x = made(PLAIN).eval(), 3 * sentences((7, 7))
    with torch.no_grad():
        model.head.weight.mul_(10)
    with pytest.raises(ExplanationError, match="cannot explain this network"):
        deep_shap(model, x, torch.tensor([0, 1]), background=3 * sentences((7, 7, 7), seed=1))


def corpus(*, trainable: bool) -> tuple[Form, Tensor, Tensor]:
    """Sentences of positions; a sentence that holds the word 2 is of class 1."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(9, DIMENSION)).astype(np.float32)
    vectors[0] = 0
    x = draw.integers(3, 9, size=(80, 7)) * (np.arange(7) < draw.integers(1, 8, size=(80, 1)))
    y = np.arange(80) % 2
    x[y == 1, 0] = 2
    tokens = Tokens(words=("", "?", *"abcdefg"), vectors=vectors, trainable=trainable)
    return Form(shape=(7,), classes=2, tokens=tokens), torch.from_numpy(x.astype(np.int32)), torch.from_numpy(y)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("objective", ["standard", {"name": "pgd", "epsilon": 0.05, "steps": 2}])
@pytest.mark.parametrize("attention", [False, True])
def test_it_trains_privately(attention: bool, objective: object, trainable: bool, given_noise: float) -> None:
    form, x, y = corpus(trainable=trainable)
    recipe = Recipe(
        objective=objective,
        privacy=Privacy(epsilon=8.0, max_grad_norm=2.0),
        training=Training(epochs=6, batch_size=40, learning_rate=0.05),
    )
    bounds = Bounds(low=torch.zeros(1), high=torch.full((1,), 8.0), padding=True)
    model = LSTM(hidden=6, attention=attention, dropout=0.1).build_for(form, seed=0)
    trainer = build_trainer(model, recipe, x, y, bounds=bounds, seed=0)
    trainer.run()
    trainer.close()
    assert trainer.losses[-1] < trainer.losses[0]
    assert not any(layer._forward_hooks for layer in model.modules())
    assert trainer.mechanism is not None


def test_crafting_while_private_hooks_are_paused_sees_the_same_network() -> None:
    form, x, _ = corpus(trainable=False)
    model = LSTM(hidden=6, dropout=0.0).build_for(form, seed=0)
    plain = copy.deepcopy(model)
    vectors = model.front(x)  # type: ignore[operator]
    bounds = vector_bounds(model.front.table.weight)  # type: ignore[union-attr, arg-type]
    gradients = PerRecordGradients(model)
    slopes = []
    for network in (model, plain):
        point = bounds.confine(vectors + 0.1, vectors).requires_grad_()
        with gradients.paused():
            slopes.append(torch.autograd.grad(network(point).square().sum(), point)[0])
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-7)
    assert all(getattr(p, "grad_sample", None) is None for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@every_variant
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_same_network_on_a_gpu(architecture: LSTM, training: bool) -> None:
    here = made(architecture, dtype=torch.float64).train(training)
    there, x = copy.deepcopy(here).cuda(), sentences(dtype=torch.float64).requires_grad_()
    moved = x.detach().cuda().requires_grad_()
    torch.testing.assert_close(there(moved).cpu(), here(x), rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad(here(x).square().sum(), x)
    torch.testing.assert_close(
        torch.autograd.grad(there(moved).square().sum(), moved)[0].cpu(), slope, atol=1e-10, rtol=0
    )


def test_the_leads_of_a_signal_are_no_time() -> None:
    signals = Form(shape=(12, 50), classes=2, modality="signal")
    network = LSTM(hidden=4).build_for(signals, seed=0)
    assert network(torch.randn(3, 12, 50)).shape == (3, 2)
    assert network.layers[0].directions[0].input.in_features == 12
