"""Rows on rules of DeepLIFT: exact, or refused."""

import itertools

import torch
from torch import Tensor, nn

from tests.benchmarks.known_answers.networks import DOUBLE, FunctionalReLU, ReusedReLU, drawn, layered, perceptron
from tests.benchmarks.known_answers.row import Row, refused_or_below
from tests.benchmarks.known_answers.systems import assay, captum, shap_deep, shap_deep_of_both

X, BACKGROUND = drawn(4, 6), drawn(1, 6, seed=1)
IMAGES, GREY = drawn(3, 1, 8, 8), drawn(1, 1, 8, 8, seed=1)
EXACT = 1e-4
"""Greatest error of a sum or a value that is rounding and no wrong rule."""


def _missed(values: Tensor, model: nn.Module, x: Tensor, background: Tensor) -> float:
    """Greatest error of the sum of the values of class 1 or of its lead, relative to the greatest value or change."""
    with torch.no_grad():
        logits, neutral = model(x), model(background)
    own = logits[:, 1] - neutral[:, 1]
    lead = own - (logits[:, 0] - neutral[:, 0])
    sums, most = values.flatten(1).sum(1), values.flatten(1).abs().amax(1)
    by_scale = [
        float(((sums - change).abs() / torch.maximum(change.abs(), most)).max()) for change in (own, lead)
    ]  # fmt: skip
    return min(by_scale)


def _row(fault: str, name: str, model: nn.Module, told: str, image: bool = False) -> Row:
    x, background = (IMAGES, GREY) if image else (X, BACKGROUND)
    modality = "image" if image else "tabular"
    return Row(
        fault=fault,
        name=name,
        input=f"DeepLIFT of {told}: error of the sum, relative",
        right="refused, or at most 1e-4",
        accepts=refused_or_below(EXACT),
        assay=lambda: float(assay("deep_shap", model, x, background, None, modality).error.max()),
        captum=lambda: _missed(captum("DeepLift", model, x, baselines=background), model, x, background),
        shap=lambda: _missed(shap_deep(model, x, background), model, x, background),
    )


class SoftmaxInside(nn.Module):
    """A softmax over three inputs, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.last = nn.Softmax(1), nn.Linear(3, 2, bias=False).to(DOUBLE)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [3.0, -1.0, 0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mix(x))


THREE, NONE = torch.tensor([[2.0, 1.0, -1.0]], dtype=DOUBLE), torch.zeros(1, 3, dtype=DOUBLE)


def brute_force(model: nn.Module, x: Tensor, baseline: Tensor) -> Tensor:
    """Shapley values of the difference of the logits of one record, by all orders of its features."""
    inputs = x.shape[1]
    total = torch.zeros(inputs, dtype=DOUBLE)
    orders = list(itertools.permutations(range(inputs)))
    with torch.no_grad():
        for order in orders:
            mixed = baseline.clone()
            before = float(model(mixed) @ torch.tensor([-1.0, 1.0], dtype=DOUBLE))
            for place in order:
                mixed[:, place] = x[:, place]
                after = float(model(mixed) @ torch.tensor([-1.0, 1.0], dtype=DOUBLE))
                total[place] += after - before
                before = after
    return total / len(orders)


def _from_shapley(values: Tensor) -> float:
    exact = brute_force(SoftmaxInside(), THREE, NONE)
    return float((values[0] - exact).abs().max() / exact.abs().max())


class Recurrent(nn.Module):
    """An LSTM of torch over eight steps of one number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(1, 4, batch_first=True).to(DOUBLE)
        self.last = nn.Linear(4, 2).to(DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x[..., None])[0][:, -1])


STEPS = 3 * drawn(1, 8, seed=2)


def _recurrent_error(values: Tensor) -> float:
    exact = assay({"name": "exact_shapley", "groups": 8}, Recurrent(), STEPS, 0 * STEPS).values
    return float((values - exact).abs().max() / exact.abs().max())


class Attending(nn.Module):
    """Weights by a softmax of the inputs times the inputs: a rule for each entry alone adds up, and is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        score = (self.mix(x) * x).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def _attending_error(values: Tensor) -> float:
    exact = brute_force(Attending(), THREE, NONE)
    return float((values[0] - exact).abs().max() / exact.abs().max())


def _additive_error(values: Tensor) -> float:
    exact = brute_force(ADDITIVE, X[:1, :4], BACKGROUND[:, :4])
    return float((values[0] - exact).abs().max() / exact.abs().max())


def _difference_by_shap(model: nn.Module, x: Tensor, background: Tensor) -> Tensor:
    values = shap_deep_of_both(model, x, background)
    return values[..., 1] - values[..., 0]


def _additive() -> nn.Sequential:
    """A network whose hidden units each see one input: its Shapley values are those of DeepLIFT."""
    network = layered(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        network[0].weight.mul_(torch.eye(4, dtype=DOUBLE).repeat_interleave(2, 0) * 3)
    return network


ADDITIVE = _additive()
ROWS = (
    *(
        _row("A3", f"functional_relu_{scale:g}", FunctionalReLU(scale), f"a ReLU function, logits × {scale:g}")
        for scale in (1e-3, 1.0, 1e3)
    ),
    *(
        _row("A3", f"relu_layer_{scale:g}", perceptron(scale=scale), f"a ReLU layer, logits × {scale:g}")
        for scale in (1e-3, 1e3)
    ),
    _row("A9", "reused_relu", ReusedReLU(), "one ReLU layer that is used twice"),
    _row("A9", "layer_norm", layered(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)), "a LayerNorm"),
    _row(
        "A9",
        "group_norm",
        layered(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)),
        "a GroupNorm",
        image=True,
    ),
    _row(
        "A9",
        "pool_then_relu",
        layered(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)),
        "maximum pooling before ReLU",
        image=True,
    ),
    _row(
        "A9",
        "overlapping_pools",
        layered(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3, stride=1), nn.Flatten(), nn.Linear(64, 2)),
        "maximum pooling with windows that overlap",
        image=True,
    ),
    _row("A9", "gelu", layered(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 2)), "a GELU"),
    Row(
        fault="A9",
        name="softmax_inside",
        input="DeepLIFT of a softmax over three inputs: greatest relative error of a value against all orders",
        right="refused, or at most 1e-4",
        accepts=refused_or_below(EXACT),
        assay=lambda: _from_shapley(assay("deep_shap", SoftmaxInside(), THREE, NONE).values),
        captum=lambda: _from_shapley(captum("DeepLift", SoftmaxInside(), THREE)),
        shap=lambda: _from_shapley(shap_deep(SoftmaxInside(), THREE, NONE)),
    ),
    Row(
        fault="A9",
        name="attention_inside",
        input="DeepLIFT of softmax(x)·x: greatest relative error of a value against all orders",
        right="refused, or at most 1e-4",
        accepts=refused_or_below(EXACT),
        assay=lambda: _attending_error(assay("deep_shap", Attending(), THREE, NONE).values),
        captum=lambda: _attending_error(captum("DeepLift", Attending(), THREE)),
        shap=lambda: _attending_error(shap_deep(Attending(), THREE, NONE)),
    ),
    Row(
        fault="A9",
        name="additive_network",
        input="DeepLIFT of a network whose hidden units see one input each: error of a value against all orders",
        right="at most 1e-4: it can be exact here",
        accepts=lambda given: isinstance(given, float) and given <= EXACT,
        assay=lambda: _additive_error(assay("deep_shap", ADDITIVE, X[:1, :4], BACKGROUND[:, :4]).values),
        captum=lambda: _additive_error(
            captum("DeepLift", ADDITIVE, X[:1, :4], baselines=BACKGROUND[:, :4], target=1)
            - captum("DeepLift", ADDITIVE, X[:1, :4], baselines=BACKGROUND[:, :4], target=0)
        ),
        shap=lambda: _additive_error(_difference_by_shap(ADDITIVE, X[:1, :4], BACKGROUND[:, :4])),
    ),
    Row(
        fault="A11",
        name="lstm",
        input="DeepLIFT of an LSTM over eight steps: greatest error of a value against exact Shapley values",
        right="refused, or at most 1e-4",
        accepts=refused_or_below(EXACT),
        assay=lambda: _recurrent_error(assay("deep_shap", Recurrent(), STEPS, 0 * STEPS).values),
        captum=lambda: _recurrent_error(captum("DeepLift", Recurrent(), STEPS)),
        shap=lambda: _recurrent_error(shap_deep(Recurrent(), STEPS, 0 * STEPS)),
    ),
)
