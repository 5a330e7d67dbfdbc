"""Per-record gradients against a loop over records."""

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.models.base import Architecture
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.models.resnet import ResNet18
from assay.models.text_cnn import TextCNN
from assay.objectives.base import Batch
from assay.objectives.pgd import AdversarialPGD
from assay.objectives.trades import Trades
from assay.privacy import bookkeeping
from assay.privacy.clipping import STABILITY, Clipping, PerRecordGradients
from assay.seeds import Draw
from assay.threats import Bounds
from tests.privacy.networks import CLASSES, NETWORKS, SLOW, Attends, drawn, made

# Torch's advice on the speed of even kernels, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
Blobs = Callable[..., tuple[Tensor, Tensor]]
CLIPPINGS: list[Clipping] = ["flat", "per_layer", "automatic"]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y, reduction="none")


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> list[list[Tensor]]:
    """The gradient of each record by a backward pass of its own."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [list(torch.autograd.grad(losses(model, x[i][None], y[i][None]).sum(), parameters)) for i in range(len(x))]


def whole(model: nn.Module) -> list[list[int]]:
    """All parameters as one group."""
    return [list(range(sum(p.requires_grad for p in model.parameters())))]


def by_layer(model: nn.Module) -> list[list[int]]:
    """Positions of the parameters of each layer of ``torch.nn``."""
    names = [name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad]
    return [[i for i, _ in group] for _, group in itertools.groupby(enumerate(names), key=lambda pair: pair[1])]


def loop(model: nn.Module, x: Tensor, y: Tensor, limit: float, clipping: Clipping = "flat") -> list[Tensor]:
    """Clip each record's gradient, then add."""
    groups = by_layer(model) if clipping == "per_layer" else whole(model)
    total = [torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
    for gradient in one_by_one(model, x, y):
        for group in groups:
            norm = length([gradient[i] for i in group])
            most = limit / len(groups) ** 0.5
            factor = most / (norm + STABILITY) if clipping == "automatic" else min(1.0, most / max(norm, 1e-30))
            for i in group:
                total[i] = total[i] + factor * gradient[i]
    return total


def length(gradient: list[Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradient]).norm())


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Relative difference of two gradients."""
    return length([a - b for a, b in zip(ours, theirs, strict=True)]) / length(theirs)


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_clipped_sum_equals_a_loop_over_records(name: str, dtype: torch.dtype, most: float) -> None:
    model, x, y = made(name, 6, dtype=dtype)
    plain = copy.deepcopy(model)
    gradients = PerRecordGradients(model)
    for max_grad_norm in (0.02, 0.5, 100.0):
        total = gradients.clipped_sum(losses(model, x, y), max_grad_norm)
        assert apart(total, loop(plain, x, y, max_grad_norm)) <= most


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_network_that_is_drawn_equals_the_loop(seed: int, dtype: torch.dtype, most: float) -> None:
    model, x, y = drawn(seed, 1 + seed % 6, dtype=dtype)
    plain = copy.deepcopy(model)
    gradients = PerRecordGradients(model)
    for max_grad_norm in (0.02, 100.0):
        total = gradients.clipped_sum(losses(model, x, y), max_grad_norm)
        assert apart(total, loop(plain, x, y, max_grad_norm)) <= most


@settings(max_examples=25)
@given(
    name=st.sampled_from([*NETWORKS, *SLOW]),
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    max_grad_norm=st.floats(1e-3, 10),
    clipping=st.sampled_from(["flat", "automatic"]),
    at_once=st.sampled_from([1, 300, 2**21]),
)
def test_any_network_batch_and_norm_equal_the_loop(  # noqa: PLR0917 - hypothesis draws each
    name: str, seed: int, n: int, max_grad_norm: float, clipping: Clipping, at_once: int
) -> None:
    model, x, y = made(name, n, dtype=torch.float64, seed=seed)
    plain = copy.deepcopy(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bookkeeping, "AT_ONCE", at_once)
        total = PerRecordGradients(model, clipping=clipping).clipped_sum(losses(model, x, y), max_grad_norm)
    assert apart(total, loop(plain, x, y, max_grad_norm, clipping)) <= 1e-10


@pytest.mark.parametrize("name", ["mlp", "conv2d", "group norm", "layer norm", "embedding", "layer used twice"])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_every_kind_of_clipping_equals_its_loop(name: str, clipping: Clipping) -> None:
    model, x, y = made(name, 6, dtype=torch.float64)
    plain = copy.deepcopy(model)
    total = PerRecordGradients(model, clipping=clipping).clipped_sum(losses(model, x, y), 0.3)
    assert apart(total, loop(plain, x, y, 0.3, clipping)) <= 1e-12


def test_layers_that_share_a_weight_are_clipped_as_one() -> None:
    model, x, y = made("tied words", 1, dtype=torch.float64)
    (gradient,) = one_by_one(copy.deepcopy(model), x, y)
    total = PerRecordGradients(model, clipping="per_layer").clipped_sum(losses(model, x, y), 1e-3)
    # The table is the weight of two layers: two groups, each clipped to C/√2 in its own direction.
    for group in ([0], [1, 2]):
        own = [gradient[i] for i in group]
        assert apart([total[i] for i in group], [g * (1e-3 / 2**0.5 / length(own)) for g in own]) <= 1e-9


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), max_grad_norm=st.floats(1e-3, 10), clipping=st.sampled_from(CLIPPINGS))
def test_a_records_clipped_gradient_has_bounded_norm(seed: int, max_grad_norm: float, clipping: Clipping) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    x, y = 10 * torch.randn(1, 5).double(), torch.tensor([seed % 2])
    (gradient,) = one_by_one(copy.deepcopy(model), x, y)
    clipped = PerRecordGradients(model, clipping=clipping).clipped_sum(losses(model, x, y), max_grad_norm)
    assert length(clipped) <= max_grad_norm * (1 + 1e-12)
    if clipping == "flat":
        assert length(clipped) == pytest.approx(min(length(gradient), max_grad_norm), rel=1e-9)


CANCELLING: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "linear": lambda: (nn.Linear(300, 300, bias=False), (2, 300)),
    "conv1d": lambda: (nn.Conv1d(300, 300, 1, bias=False), (300, 2)),
    "conv2d": lambda: (nn.Conv2d(300, 300, 1, bias=False), (300, 2, 1)),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_positions_that_nearly_cancel_are_clipped_all_the_same(name: str) -> None:
    """In float32 a length from inner products of all pairs would be rounding: too small, or the root of less than 0."""
    for seed in range(40):
        torch.manual_seed(seed)
        layer, shape = CANCELLING[name]()
        moved = nn.functional.normalize(torch.randn(300), dim=0) * 17
        pair = torch.stack([moved, -moved + 3e-4 * torch.randn(300)])
        x = (pair if shape[0] == 2 else pair.T.reshape(shape))[None]
        slope = torch.randn(300) / 17
        gradients = PerRecordGradients(layer)
        answer = layer(x).movedim(1, -1) if shape[0] == 300 else layer(x)
        total = gradients.clipped_sum((answer.flatten(1, -2) * slope).sum((1, 2)), 1e-3)
        assert length(total) <= 1e-3 * (1 + 1e-3)


DIFFERENCES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Linear(64, 64, bias=False), (2, 64), 1),
    "convolution": (lambda: nn.Conv1d(64, 64, 1, bias=False), (64, 2), 2),
    "linear, two rows": (lambda: nn.Linear(64, 64, bias=False), (64,), 0),
    "convolution, two rows": (lambda: nn.Conv1d(64, 64, 1, bias=False), (64, 1), 0),
}
"""A layer, what it takes and the axis of two positions whose difference counts; 0: two rows make one record."""


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("size", [1e3, 1e7, 1e20])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_record_whose_positions_cancel_leaves_the_sum_of_the_others_alone(
    name: str, size: float, clipping: Clipping
) -> None:
    torch.manual_seed(0)
    make, shape, axis = DIFFERENCES[name]
    layer, slope, limit = make(), torch.randn(64), 0.05
    pairs = [torch.randn(201, *shape) for _ in range(2)] if axis == 0 else [torch.randn(201, *shape)]
    equal = size * torch.rand(64)
    for rows in pairs:
        rows[100] = equal if axis != 2 and name != "convolution, two rows" else equal[:, None]

    def clipped(records: Tensor) -> list[Tensor]:
        gradients = PerRecordGradients(layer, clipping=clipping)
        said = layer(torch.cat([rows[records] for rows in pairs]))
        one, other = said.unflatten(0, (2, -1)) if axis == 0 else said.unbind(axis)
        found = gradients.clipped_sum(((one - other).flatten(1) * slope).sum(1), limit)
        gradients.remove()
        return found

    without, (total,) = clipped(torch.arange(201) != 100), clipped(torch.arange(201) >= 0)
    assert length([total - without[0]]) <= 1e-3 * limit
    assert length([total]) > limit


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("name", ["mlp", "conv2d", "lstm", "attention to itself", "tied words"])
def test_adding_a_record_moves_the_sum_by_at_most_the_clipping_norm(name: str, clipping: Clipping) -> None:
    model, x, y = made(name, 6, dtype=torch.float64)
    gradients = PerRecordGradients(model, clipping=clipping)
    together = gradients.clipped_sum(losses(model, x, y), 0.1)
    for record in range(6):
        others = [i for i in range(6) if i != record]
        without = gradients.clipped_sum(losses(model, x[others], y[others]), 0.1)
        assert length([a - b for a, b in zip(together, without, strict=True)]) <= 0.1 + 1e-12


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
def test_a_record_whose_gradient_is_not_finite_adds_nothing(name: str) -> None:
    """Nor does it end training, which would tell of it, whether or not the model is asked if records stay apart."""
    model, x, y = made(name, 7, dtype=torch.float64)
    others = torch.arange(7) != 4
    expected, gradients = loop(model, x[others], y[others], 0.5), PerRecordGradients(model)
    # The last is finite, and its square is not.
    for factor in (math.inf, math.nan, 1e200):
        weights = torch.where(others, 1.0, torch.tensor(factor, dtype=torch.float64))
        assert apart(gradients.clipped_sum(weights * losses(model, x, y), 0.5), expected) < 1e-9


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("name", ["mlp", "conv2d", "group norm", "layer norm", "lstm", "attention to itself"])
def test_a_record_that_overflows_inside_the_network_adds_nothing(name: str, clipping: Clipping) -> None:
    model, x, y = made(name, 7)
    others = torch.arange(7) != 4
    alone = PerRecordGradients(model, clipping=clipping)
    expected = alone.clipped_sum(losses(model, x[others], y[others]), 0.5)
    alone.remove()
    gradients = PerRecordGradients(model, clipping=clipping)
    x[4] = math.inf
    for _ in range(2):
        assert apart(gradients.clipped_sum(losses(model, x, y), 0.5), expected) < 1e-5


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
def test_records_whose_gradients_overflow_add_nothing_whatever_the_layer(name: str) -> None:
    model, x, y = made(name, 6, dtype=torch.float64)
    plain, gradients = copy.deepcopy(model), PerRecordGradients(model)
    for lost in ([1, 4], list(range(6))):
        scale = torch.ones(6).double()
        scale[lost] = math.inf
        total = gradients.clipped_sum(scale * losses(model, x, y), 0.5)
        kept = scale.isfinite()
        if kept.any():
            assert apart(total, loop(plain, x[kept], y[kept], 0.5)) <= 1e-10
        else:
            assert all(torch.equal(g, torch.zeros_like(g)) for g in total)


def test_a_record_with_several_rows_that_overflow_adds_nothing() -> None:
    model, x, y = made("conv2d in groups", 12, dtype=torch.float64)
    alone = PerRecordGradients(model)
    rows = [0, 2, 3, 4, 6, 7, 8, 10, 11]
    expected = alone.clipped_sum(losses(model, x[rows], y[rows]).unflatten(0, (3, 3)).mean(0), 0.2)
    alone.remove()
    x[5] = math.inf  # the second row of record 1 of 4
    total = PerRecordGradients(model).clipped_sum(losses(model, x, y).unflatten(0, (3, 4)).mean(0), 0.2)
    assert apart(total, expected) <= 1e-10


class Passing(nn.Module):
    """Answers with tanh, and lets every gradient through as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().tanh() + (x - x.detach())


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_a_record_that_overflows_in_one_layer_adds_nothing_to_any(clipping: Clipping) -> None:
    _, x, y = made("mlp", 7, dtype=torch.float64)
    model, others = nn.Sequential(nn.Linear(5, 4), Passing(), nn.Linear(4, CLASSES)).double(), torch.arange(7) != 4
    expected = loop(model, x[others], y[others], 0.5, clipping)
    x[4] = 1e200
    assert apart(PerRecordGradients(model, clipping=clipping).clipped_sum(losses(model, x, y), 0.5), expected) < 1e-9


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_a_gradient_of_zero_is_added_as_zero(clipping: Clipping) -> None:
    model = nn.Linear(5, 2)
    total = PerRecordGradients(model, clipping=clipping).clipped_sum(0 * model(torch.zeros(3, 5)).sum(1), 1.0)
    assert all(torch.equal(g, torch.zeros_like(g)) for g in total)


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
def test_a_record_may_have_several_rows(name: str) -> None:
    """Three answers for each record in one pass, all records and then all again, make one gradient a record."""
    model, x, y = made(name, 12, dtype=torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]
    expected = [torch.zeros_like(p) for p in parameters]
    for record in range(4):
        rows = [record, record + 4, record + 8]
        gradient = torch.autograd.grad(losses(model, x[rows], y[rows]).mean(), parameters)
        expected = [e + g * min(1.0, 0.2 / length(list(gradient))) for e, g in zip(expected, gradient, strict=True)]
    gradients = PerRecordGradients(model)
    total = gradients.clipped_sum(losses(model, x, y).unflatten(0, (3, 4)).mean(0), 0.2)
    assert apart(total, expected) <= 1e-12


def test_two_forward_passes_make_one_gradient() -> None:
    model, x, y = made("mlp", 4, dtype=torch.float64)
    plain, other = copy.deepcopy(model), x.flip(1)
    expected = [torch.zeros_like(p) for p in plain.parameters()]
    for record in range(4):
        loss = losses(plain, x[[record]], y[[record]]) + losses(plain, other[[record]], y[[record]])
        gradient = torch.autograd.grad(loss.sum(), list(plain.parameters()))
        expected = [e + g * min(1.0, 0.2 / length(list(gradient))) for e, g in zip(expected, gradient, strict=True)]
    gradients = PerRecordGradients(model)
    assert apart(gradients.clipped_sum(losses(model, x, y) + losses(model, other, y), 0.2), expected) <= 1e-12


@pytest.mark.parametrize("name", SLOW)
def test_a_layer_without_a_rule_is_named(name: str) -> None:
    model, _, _ = made(name, 2)
    (note,) = PerRecordGradients(model).notes
    assert "by Opacus" in note and "which is slower" in note and "layer '" in note


def test_layers_with_a_rule_need_no_note() -> None:
    assert [PerRecordGradients(made(name, 2)[0]).notes for name in NETWORKS] == [[]] * len(NETWORKS)


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
def test_recording_changes_no_answer(name: str) -> None:
    model, x, _ = made(name, 4, dtype=torch.float64)
    before, names = copy.deepcopy(model), list(model.state_dict())
    gradients = PerRecordGradients(model)
    assert torch.allclose(model(x), before(x), rtol=0, atol=1e-13)
    with gradients.paused():
        assert torch.equal(model(x), before(x))
    assert list(model.state_dict()) == names
    gradients.remove()
    assert all(
        not layer._forward_hooks and not layer._forward_pre_hooks and "forward" not in vars(layer)
        for layer in model.modules()
    )
    assert torch.equal(model(x), before(x))


MASKS: dict[str, dict[str, object]] = {
    "padding": {"key_padding_mask": torch.arange(7) >= torch.tensor([[7], [5], [3], [6]])},
    "causal": {"attn_mask": torch.ones(7, 7).triu(1).bool(), "is_causal": True},
    "added": {"attn_mask": torch.linspace(-1, 1, 49).view(7, 7)},
    "one a record and head": {"attn_mask": torch.linspace(-1, 1, 392).view(8, 7, 7), "need_weights": False},
    "weights of every head": {"average_attn_weights": False},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_recorded_under_every_mask(mask: str, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=batch_first)
    x = torch.randn(4, 7, 6) if batch_first else torch.randn(7, 4, 6)
    expected = layer(x, x, x, **MASKS[mask])
    PerRecordGradients(layer)
    found = layer(x, x, x, **MASKS[mask])
    assert torch.allclose(found[0], expected[0], rtol=0, atol=1e-6)
    assert (found[1] is None) == (expected[1] is None)
    assert found[1] is None or torch.allclose(found[1], expected[1], rtol=0, atol=1e-6)


def test_a_model_may_change_its_input_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, CLASSES))
    x, y = torch.randn(6, 5), torch.arange(6) % CLASSES
    expected = loop(copy.deepcopy(model), x.clone(), y, 0.3)
    assert apart(PerRecordGradients(model).clipped_sum(losses(model, x, y), 0.3), expected) <= 1e-5


def test_packed_sequences_are_refused() -> None:
    layer = nn.LSTM(6, 4, batch_first=True)
    PerRecordGradients(layer)
    with pytest.raises(IncompatibleRecipeError, match=r"packed sequences.*give padded sequences"):
        layer(nn.utils.rnn.pack_sequence([torch.randn(3, 6), torch.randn(2, 6)]))


def test_dropout_is_drawn_once(blobs: Blobs) -> None:
    x, y = blobs(6, torch.float64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    torch.manual_seed(1)
    expected = torch.autograd.grad(losses(model, x, y).sum(), list(model.parameters()))
    torch.manual_seed(1)
    assert apart(PerRecordGradients(model).clipped_sum(losses(model, x, y), 1e9), list(expected)) <= 1e-12


class Centred(nn.Module):
    """Takes the mean of the batch away."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class TimeFirst(nn.Module):
    """Brings another axis than that of the records to the front of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.transpose(0, 1)).tanh().mean(0))


class Positions(nn.Module):
    """A table of positions, looked up once for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.table(torch.arange(6))).tanh().mean(1))


class Scaled(nn.Module):
    """Divides by the deviation of the batch, through which no gradient flows."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.detach().std(0)


class Paired(nn.Module):
    """Takes from each record the mean of itself and its neighbour."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.unflatten(0, (-1, 2)).mean(1).repeat_interleave(2, 0)


class Gated(nn.Module):
    """Mixes behind a gate that is closed at first (Bachlechner et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(5, 5, bias=False), nn.Linear(5, CLASSES)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.gate(x - x.mean(0)))


MIXERS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "behind a layer": lambda: (nn.Sequential(nn.Linear(5, 5), Centred(), nn.Linear(5, CLASSES)), torch.randn(6, 5)),
    "before every layer": lambda: (nn.Sequential(Centred(), nn.Linear(5, CLASSES)), torch.randn(6, 5)),
    "where no gradient flows": lambda: (
        nn.Sequential(nn.Linear(5, 5), Scaled(), nn.Linear(5, CLASSES)),
        torch.randn(6, 5),
    ),
    "with one neighbour": lambda: (nn.Sequential(nn.Linear(5, 5), Paired(), nn.Linear(5, CLASSES)), torch.randn(8, 5)),
    "records not at axis 0": lambda: (TimeFirst(), torch.randn(6, 6, 6)),
    "one look-up for all": lambda: (Positions(), torch.randn(6, 6, 6)),
}


class CentredInTraining(nn.Module):
    """Takes the mean of the batch away while it trains, where no gradient flows."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.detach().mean(0) if self.training else x


class Replaces(nn.Module):
    """Keeps averages over records, in a buffer that it replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        return x - self.mean


class Attribute(nn.Module):
    """Keeps them where no buffer is."""

    mean: float | Tensor = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        return x - self.mean


class Number(nn.Module):
    """Keeps a number of what it saw."""

    mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * float(x.detach().mean())
        return x - self.mean


class Array(nn.Module):
    """Keeps a mean over records in a NumPy array, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = np.zeros(5, np.float32)

    def forward(self, x: Tensor) -> Tensor:
        self.mean += 0.5 * x.detach().mean(0).numpy()
        return x - torch.from_numpy(self.mean)


class Bank(nn.Module):
    """Keeps records in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return x - self.seen[0].mean(0)


@pytest.mark.parametrize("kind", [CentredInTraining, Replaces, Attribute, Number, Array, Bank])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_layer_that_mixes_or_remembers_records_is_refused_by_name(kind: type[nn.Module], dropout: float) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 5), nn.Dropout(dropout), nn.Sequential(kind()), nn.Linear(5, CLASSES)]
    model, x, y = nn.Sequential(*layers).train(), torch.randn(16, 5), torch.arange(16) % CLASSES
    gradients = PerRecordGradients(model)
    with pytest.raises(IncompatibleRecipeError, match=rf"layer '2\.0' \({kind.__name__}\)"):
        gradients.clipped_sum(losses(model, x, y), 1.0)


OURS: dict[str, tuple[Architecture, tuple[int, ...]]] = {
    "mlp": (MLP(), (5,)),
    "cnn": (CNN(channels=(4, 6), hidden=8, dropout=0.5), (1, 12, 12)),
    "resnet": (ResNet18(norm="group", stem="small"), (1, 8, 8)),
    "lstm": (LSTM(hidden=6, layers=2, dropout=0.5), (7, 4)),
    "text_cnn": (TextCNN(channels=5, dropout=0.5), (9, 4)),
}


@pytest.mark.parametrize("name", OURS)
def test_a_model_of_ours_is_let_through_and_draws_what_it_would_have_drawn(name: str) -> None:
    architecture, shape = OURS[name]
    model, x = architecture.build(shape, CLASSES, seed=0).train(), torch.rand(4, *shape)
    gradients = PerRecordGradients(model)
    answers = []
    for _ in range(2):  # the model is asked before the first alone
        torch.manual_seed(0)
        answers.append(model(x))
        total = gradients.clipped_sum(F.cross_entropy(answers[-1], torch.arange(4) % CLASSES, reduction="none"), 1.0)
        assert length(total) > 0
    assert torch.equal(*answers)
    assert all(layer.training for layer in model.modules())


TUPLES: dict[str, Callable[[], nn.Module]] = {
    "projected": lambda: nn.LSTM(6, 4, proj_size=2, batch_first=True),
    "of another kind": lambda: nn.RNN(6, 4, batch_first=True),
    "with a key of its own": lambda: Attends(crossed=0, add_bias_kv=True).layer,
}


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", TUPLES)
def test_a_layer_without_a_rule_that_answers_with_a_tuple_is_named(name: str) -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = TUPLES[name]()

        def forward(self, x: Tensor) -> Tensor:
            return (self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x))[0].sum(1)

    model = Holds()
    PerRecordGradients(model)
    with pytest.raises(IncompatibleRecipeError, match=r"layer 'layer' \(.*\) answers with a tuple"):
        model(torch.randn(4, 7, 6))


def test_one_record_whose_gradient_autograd_cannot_tell_does_not_end_training() -> None:
    """The end would tell of it; a weight that is used past its layer shows in all records."""
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 2, bias=False), torch.randn(20, 2, 3)
    x[7] = 1e7 * torch.rand(3)
    gradients = PerRecordGradients(layer)
    said = layer(x)
    assert length(gradients.clipped_sum((said[:, 0] - said[:, 1]).sum(1), 1.0)) > 0


@pytest.mark.parametrize("where", MIXERS)
def test_a_network_that_mixes_records_is_refused(where: str) -> None:
    torch.manual_seed(0)
    model, x = MIXERS[where]()
    gradients = PerRecordGradients(model)
    with pytest.raises(IncompatibleRecipeError, match=r"depends on other records.*keep the records of a batch apart"):
        gradients.clipped_sum(losses(model, x, torch.arange(len(x)) % CLASSES), 1.0)


def test_mixing_behind_a_gate_is_found_while_the_gate_is_closed() -> None:
    torch.manual_seed(0)
    model, x, y = Gated(), torch.randn(6, 5), torch.arange(6) % CLASSES
    gradients = PerRecordGradients(model)
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        gradients.clipped_sum(losses(model, x, y), 1.0)


KEEPERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "averages": (lambda: nn.InstanceNorm1d(5, track_running_stats=True), "keeps averages over records without noise"),
    "renormed vectors": (lambda: nn.Embedding(11, 6, max_norm=0.5), "changes the vectors of the words"),
    "weighed words": (lambda: nn.Embedding(11, 6, scale_grad_by_freq=True), "weighs a record's words"),
}


@pytest.mark.parametrize("what", KEEPERS)
def test_a_layer_that_remembers_records_without_noise_is_refused_by_name(what: str) -> None:
    make, why = KEEPERS[what]
    with pytest.raises(IncompatibleRecipeError, match=rf"layer '0' is .*{why}"):
        PerRecordGradients(nn.Sequential(make(), nn.Linear(6, CLASSES)))


class Remembers(nn.Module):
    """Keeps the last record it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, CLASSES)
        self.register_buffer("last", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        self.last.copy_(x[-1])
        return self.head(x)


def test_a_forward_pass_that_writes_to_the_model_is_refused() -> None:
    model, x = Remembers(), torch.ones(1, 5)
    with pytest.raises(
        IncompatibleRecipeError, match="the forward pass changed a weight, a buffer or an attribute of the model itself"
    ):
        PerRecordGradients(model).clipped_sum(losses(model, x, torch.tensor([0])), 1.0)


def test_an_objective_that_mixes_records_is_refused() -> None:
    model, x, y = made("mlp", 6)
    gradients = PerRecordGradients(model)
    found = losses(model, x, y)
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        gradients.clipped_sum(found - found.mean(), 1.0)


class Unrecorded(nn.Module):
    """Uses a weight past the layer that holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x) + x @ self.inner.weight)


class Slightly(Unrecorded):
    """Does so where it hardly matters."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x) + 1e-3 * (x @ self.inner.weight))


class Past(nn.Module):
    """Calls no layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.inner.weight, self.inner.bias)


@pytest.mark.parametrize("make", [Unrecorded, Slightly, Past])
@pytest.mark.parametrize("n", [1, 6])
def test_a_weight_that_is_used_unrecorded_is_named(make: Callable[[], nn.Module], n: int) -> None:
    torch.manual_seed(0)
    model = make()
    x, y = torch.randn(n, 5), torch.arange(n) % CLASSES
    with pytest.raises(IncompatibleRecipeError, match=r"'inner.weight' is used where .* cannot record it"):
        PerRecordGradients(model).clipped_sum(losses(model, x, y), 1.0)


def test_records_that_want_a_gradient_themselves_change_nothing() -> None:
    model, x, y = made("mlp", 6, dtype=torch.float64)
    expected = loop(copy.deepcopy(model), x, y, 0.5)
    gradients = PerRecordGradients(model)
    for _ in range(2):
        moved = x.clone().requires_grad_(True) * 1.0
        assert apart(gradients.clipped_sum(losses(model, moved, y), 0.5), expected) <= 1e-12


class Tokened(nn.Module):
    """Holds parameters itself, a number among them."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.scale = nn.Parameter(torch.linspace(-1, 1, 5)), nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.token) * self.scale)


def test_a_model_may_hold_parameters_itself() -> None:
    torch.manual_seed(0)
    model, x, y = Tokened().double(), torch.randn(6, 5).double(), torch.arange(6) % CLASSES
    expected = loop(copy.deepcopy(model), x, y, 0.3)
    gradients = PerRecordGradients(model)
    assert apart(gradients.clipped_sum(losses(model, x, y), 0.3), expected) <= 1e-10
    gradients.remove()
    assert set(vars(model)) == set(vars(Tokened()))


class Buffered(nn.Module):
    """Holds a buffer beside its parameter, which Opacus refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.register_buffer("mask", torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale * self.mask


def test_a_layer_that_opacus_refuses_is_named_and_no_hook_is_left() -> None:
    model = nn.Sequential(nn.Linear(5, 5), Buffered())
    with pytest.raises(IncompatibleRecipeError, match=r"'1' \(Buffered\) has no per-record gradients here"):
        PerRecordGradients(model)
    assert not model[0]._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize("name", ["mlp", "conv2d", "lstm", "gru", "attention to itself", "layer norm", "embedding"])
def test_half_precision_keeps_the_bound(name: str) -> None:
    model, x, y = made(name, 6)
    expected = loop(copy.deepcopy(model), x, y, 0.1)
    gradients = PerRecordGradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, x, y)
    assert apart(gradients.clipped_sum(found, 0.1), expected) <= 0.1
    with torch.autocast("cpu", torch.bfloat16):
        one = losses(model, x[:1], y[:1])
    assert length(gradients.clipped_sum(one, 1e-3)) <= 1e-3 * (1 + 1e-5)


def test_pauses_may_lie_within_each_other() -> None:
    gradients = PerRecordGradients(nn.Linear(5, 2))
    with gradients.paused():
        with gradients.paused():
            pass
        assert not gradients.hooks_enabled
    assert gradients.hooks_enabled


def test_a_causal_hint_without_its_mask_is_refused() -> None:
    layer = nn.MultiheadAttention(6, 2, batch_first=True)
    PerRecordGradients(layer)
    x = torch.randn(4, 7, 6)
    with pytest.raises(ValueError, match="give the mask"):
        layer(x, x, x, is_causal=True)


class Scales(nn.Module):
    """Holds a parameter beside dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) * self.scale


def test_a_layer_that_cannot_be_asked_again_is_refused_by_name() -> None:
    with pytest.raises(IncompatibleRecipeError, match=r"'1' \(Scales\) holds parameters .* beside dropout"):
        PerRecordGradients(nn.Sequential(nn.Linear(5, 5), Scales()))


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(5), nn.BatchNorm2d(5), nn.BatchNorm1d(5, affine=False), nn.SyncBatchNorm(5)]
)
def test_batch_norm_is_refused_by_name(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(IncompatibleRecipeError, match=rf"'1.1' is {type(layer).__name__}, which mixes.*GroupNorm"):
        PerRecordGradients(model)
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("name", ["mlp", "conv2d", "lstm", "attention to itself", "layer used twice"])
def test_paused_passes_are_not_recorded(name: str) -> None:
    model, x, y = made(name, 6, dtype=torch.float64)
    expected = loop(copy.deepcopy(model), x, y, 0.5)
    gradients = PerRecordGradients(model)
    with gradients.paused():
        moved = x.clone().requires_grad_(True)
        torch.autograd.grad(losses(model, moved, y).sum(), moved)
        model(moved)
    assert apart(gradients.clipped_sum(losses(model, x, y), 0.5), expected) <= 1e-12


def test_paused_ends_after_an_error_too(blobs: Blobs) -> None:
    x, y = blobs(4)
    model = nn.Linear(5, 2)
    gradients = PerRecordGradients(model)
    with pytest.raises(ZeroDivisionError), gradients.paused():
        raise ZeroDivisionError
    assert length(gradients.clipped_sum(losses(model, x, y), 1.0)) > 0


def test_a_clipped_sum_leaves_no_gradient_behind() -> None:
    model, x, y = made("mlp", 6)
    PerRecordGradients(model).clipped_sum(losses(model, x, y), 0.5)
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in model.parameters())


def test_every_batch_stands_for_itself() -> None:
    model, x, y = made("conv2d", 6)
    gradients = PerRecordGradients(model)
    first = gradients.clipped_sum(losses(model, x, y), 0.5)
    gradients.clipped_sum(losses(model, x[:5], y[:5]), 0.5)
    again = gradients.clipped_sum(losses(model, x, y), 0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_private_adversarial_step_equals_the_loop(blobs: Blobs, blob_bounds: Bounds) -> None:
    x, y = blobs(12)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    plain, objective = copy.deepcopy(model), AdversarialPGD(epsilon=0.3, steps=4)

    def batch() -> Batch:
        return Batch(x=x, y=y, bounds=blob_bounds, draw=Draw(seeds.stream(0), 12))

    def crafted(network: nn.Module) -> Tensor:
        return objective.craft(network, batch())

    gradients = PerRecordGradients(model)
    with gradients.paused():
        hooked = crafted(model)
    assert torch.equal(hooked, crafted(plain))
    total = gradients.clipped_sum(objective.losses(model, batch(), hooked), 0.2)
    assert apart(total, loop(plain, hooked, y, 0.2)) <= 1e-5


def test_a_private_trades_step_equals_the_loop(blobs: Blobs, blob_bounds: Bounds) -> None:
    x, y = blobs(6)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    plain, objective = copy.deepcopy(model), Trades(epsilon=0.3, steps=2)

    def batch(rows: slice) -> Batch:
        return Batch(x=x[rows], y=y[rows], bounds=blob_bounds, draw=Draw(seeds.stream(0), len(y[rows])))

    everyone = slice(0, 6)
    crafted = objective.craft(plain, batch(everyone))
    expected = [torch.zeros_like(p) for p in plain.parameters()]
    for record in range(6):
        own = slice(record, record + 1)
        loss = objective.losses(plain, batch(own), crafted[own]).sum()
        gradient = list(torch.autograd.grad(loss, list(plain.parameters())))
        expected = [e + g * min(1.0, 0.2 / length(gradient)) for e, g in zip(expected, gradient, strict=True)]
    total = PerRecordGradients(model).clipped_sum(objective.losses(model, batch(everyone), crafted), 0.2)
    assert apart(total, expected) <= 1e-5
