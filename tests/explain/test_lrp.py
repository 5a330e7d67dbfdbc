"""LRP: the score in parts, the rules against closed forms and Captum, and networks that it refuses."""

from typing import Any

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from torch import Tensor, nn
from torch.nn import functional as F

from assay.data.base import Normalisation
from assay.explain.base import ExplanationError
from assay.explain.methods.lrp import Lrp
from assay.explain.methods.saliency import InputTimesGradient
from assay.explain.relevance_rules import LinearLayer, Rule, handed_down
from assay.explain.scalars import lead
from assay.models.front import Normalise
from tests.explaining import reference

DOUBLE = torch.float64
RULES: list[Rule] = ["epsilon", "gamma", "z_plus"]
X = torch.randn(4, 2, 8, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
TARGET = torch.tensor([0, 1, 2, 1])


def lrp(**settings: Any) -> Lrp:
    return Lrp.model_validate({"name": "lrp", **settings})


def network(*, pool: nn.Module | None = None, bias: bool = True, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 4, 3, padding=1, bias=bias), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(pool or nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2, bias=bias), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)),
        *(nn.LazyLinear(5, bias=bias), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, classes, bias=bias)),
    ]
    found = nn.Sequential(*layers).to(DOUBLE).eval()
    found(X)
    for norm in (found[1], found[9]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return found


# Sums


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(5)])
def test_values_and_biases_add_up_to_the_score(rule: Rule, pool: nn.Module) -> None:
    found = lrp(dense=rule, convolution=rule).relevance(network(pool=pool), X, TARGET)
    torch.testing.assert_close(found.values.flatten(1).sum(1) + found.kept, found.score)
    torch.testing.assert_close(found.score, lead(network(pool=pool)(X), TARGET).detach())
    assert bool((found.kept.abs() > 1e-3).all()), "biases have a share"


@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
def test_without_biases_the_values_alone_are_the_score(rule: Rule) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv1d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2, bias=False)]
    model, x = nn.Sequential(*layers).to(DOUBLE), torch.randn(3, 2, 8, dtype=DOUBLE)
    target = torch.tensor([0, 1, 1])
    found = lrp(convolution=rule, dense=rule, epsilon=1e-12).explain(model, x, target, reference(0 * x[:1], "signal"))
    torch.testing.assert_close(found.values.flatten(1).sum(1), lead(model(x), target).detach())


# Merging


def merged(model: nn.Sequential) -> nn.Sequential:
    """The network with batch normalisation merged by hand, and nothing left of it."""
    layers = list(model)
    for place, norm in enumerate(layers):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            before = layers[place - 1]
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            with torch.no_grad():
                before.bias.copy_((before.bias - norm.running_mean) * factor + norm.bias)
                before.weight.mul_(factor.view(-1, *[1] * (before.weight.dim() - 1)))
    return nn.Sequential(*[layer for layer in layers if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)])


@pytest.mark.parametrize("rule", RULES)
def test_a_network_and_the_one_with_merged_batch_normalisation_have_the_same_values(rule: Rule) -> None:
    settings = {"dense": rule, "convolution": rule}
    plain, other = network(), merged(network())
    torch.testing.assert_close(plain(X), other(X))
    torch.testing.assert_close(
        lrp(**settings).relevance(plain, X, TARGET).values, lrp(**settings).relevance(other, X, TARGET).values
    )


@pytest.mark.parametrize("rule", RULES)
def test_what_the_last_layer_adds_to_all_logits_explains_nothing(rule: Rule) -> None:
    shifted = network()
    with torch.no_grad():
        shifted[-1].weight.add_(torch.tensor([7.0, -3, 5, 1, -9], dtype=DOUBLE))
        shifted[-1].bias.add_(100.0)
    settings = {"dense": rule, "convolution": rule}
    torch.testing.assert_close(
        lrp(**settings).relevance(shifted, X, TARGET).values, lrp(**settings).relevance(network(), X, TARGET).values
    )


def test_normalisation_of_the_data_set_passes_relevance() -> None:
    front = Normalise(Normalisation(mean=(0.5, -0.2), deviation=(2.0, 0.3)), (2, 8, 8)).to(DOUBLE)
    found = lrp().relevance(nn.Sequential(front, network()), X, TARGET)
    torch.testing.assert_close(found.values, lrp().relevance(network(), front(X), TARGET).values)


def test_a_network_that_ends_in_pooling_is_explained() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers).to(DOUBLE)
    found = lrp().relevance(model, X, TARGET)
    torch.testing.assert_close(found.values.flatten(1).sum(1) + found.kept, lead(model(X), TARGET).detach())


# Rules


def test_the_epsilon_rule_is_input_times_gradient_for_relu() -> None:
    model = network(pool=nn.AvgPool2d(2))
    found = lrp(convolution="epsilon", epsilon=1e-13).relevance(model, X, TARGET).values

    class Lead(InputTimesGradient):
        scalar = staticmethod(lead)

    expected = Lead().explain(model, X, TARGET, reference(0 * X[:1], "image")).values
    torch.testing.assert_close(found, expected)


def by_hand(layer: LinearLayer, given: Tensor, relevance: Tensor, rule: Rule, gamma: float) -> Tensor:
    """Every contribution by itself, with the bias as one more input."""
    weight, bias = layer.weight, layer.bias
    contributions = torch.cat([given[:, None] * weight, bias.expand(len(given), -1)[..., None]], dim=2)
    outputs = contributions.sum(2, keepdim=True)
    if rule == "gamma":
        contributions = contributions * (1 + gamma * (contributions.sign() == outputs.sign()))
    elif rule == "z_plus":
        contributions = contributions.clamp_min(0)
    return (contributions / contributions.sum(2, keepdim=True) * relevance[..., None]).sum(1)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_divides_relevance_by_contributions_of_both_signs(rule: Rule) -> None:
    draw = torch.Generator().manual_seed(3)
    weight, bias = (torch.randn(*shape, dtype=DOUBLE, generator=draw) for shape in ((4, 20), (4,)))
    given, relevance = (torch.randn(*shape, dtype=DOUBLE, generator=draw) for shape in ((5, 20), (5, 4)))
    layer = LinearLayer(apply=F.linear, weight=weight, bias=bias)
    values, kept = handed_down(layer, given, relevance, rule, 0.3, 1e-14)
    expected = by_hand(layer, given, relevance, rule, 0.3)
    torch.testing.assert_close(values, expected[:, :-1])
    torch.testing.assert_close(kept, expected[:, -1])


class Plain(nn.Module):
    """A network for Captum, which knows no layer that flattens; one output."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.before(x).flatten(1))
        return out


# By the rule gamma, Captum leaves the bias as it is; the paper counts it among the weights, and so do we.
@pytest.mark.parametrize(("rule", "bias"), [("epsilon", False), ("epsilon", True), ("gamma", False)])
def test_on_a_plain_network_captum_has_the_same_values(rule: Rule, bias: bool) -> None:
    """With one output, whose logit is our score, and inputs of convolutions that are not negative."""
    torch.manual_seed(0)
    before = nn.Sequential(nn.Conv2d(2, 4, 3, bias=bias), nn.ReLU(), nn.MaxPool2d(2)).to(DOUBLE)
    hidden, last, single = nn.Linear(36, 5, bias=bias), nn.Linear(5, 2, bias=bias), nn.Linear(5, 1, bias=bias)
    for layer in (hidden, last, single):
        layer.to(DOUBLE)
    with torch.no_grad():
        single.weight.copy_(last.weight[1:] - last.weight[:1])
        if bias:
            single.bias.copy_(last.bias[1:] - last.bias[:1])
    peer = Plain(before, nn.Sequential(hidden, nn.ReLU(), single))
    before[0].rule = EpsilonRule() if rule == "epsilon" else GammaRule(0.25)
    hidden.rule, single.rule = EpsilonRule(), EpsilonRule()
    expected = LRP(peer).attribute(X.abs().requires_grad_(True), target=0).detach()
    model = nn.Sequential(before, nn.Flatten(), hidden, nn.ReLU(), last)
    found = lrp(convolution=rule, epsilon=1e-12).relevance(model, X.abs(), torch.ones(4, dtype=torch.long))
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-8)


# What is refused


class Functional(nn.Module):
    """A network with something between its layers."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(4, 4), nn.Linear(4, 2), between

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.between(x, self.first(x)))
        return out


@pytest.mark.parametrize(
    "between",
    [
        lambda x, h: torch.relu(h),
        lambda x, h: h.relu_(),
        lambda x, h: x + h,
        lambda x, h: h * 2,
        lambda x, h: x,
        lambda x, h: h.flip(1),
        lambda x, h: h.T,
        lambda x, h: h.view(2, 2, 4).transpose(0, 1).reshape(4, 4),
    ],
    ids=["relu", "relu in place", "shortcut", "factor", "left out", "flip", "transposed view", "transposed"],
)
def test_what_is_no_layer_is_refused_between_which_layers_it_is(between: Any) -> None:
    with pytest.raises(ExplanationError, match=r"(first|record) ?(\(Linear\))? and last \(Linear\)"):
        lrp().relevance(Functional(between), torch.randn(4, 4), torch.tensor([0, 1, 0, 1]))


def test_a_new_shape_is_allowed_between_layers() -> None:
    model = Functional(lambda x, h: h.view(-1, 2, 2).flatten(1)).to(DOUBLE)
    x, target = torch.randn(4, 4, dtype=DOUBLE), torch.tensor([0, 1, 0, 1])
    plain = nn.Sequential(model.first, model.last)
    torch.testing.assert_close(lrp().relevance(model, x, target).values, lrp().relevance(plain, x, target).values)


class OfLogits(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2)), r"no rule for the layer 1 \(GroupNorm\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), r"no rule for the layer 1 \(GELU\)"),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), r"0 \(BatchNorm1d\) unless a convolution or linear layer"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
            r"1 \(BatchNorm1d\) without running figures",
        ),
        (OfLogits(nn.Linear(4, 2)), r"between 0 \(Linear\) and the logits"),
    ],
)
def test_a_layer_without_a_rule_is_refused_by_name(model: nn.Module, told: str) -> None:
    with pytest.raises(ExplanationError, match=told):
        lrp().relevance(model.eval(), torch.randn(4, 4), torch.tensor([0, 1, 0, 1]))


def test_a_padding_that_is_not_zeros_is_refused() -> None:
    layers = [nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(64, 3)]
    with pytest.raises(ExplanationError, match="padding 'reflect'"):
        lrp().relevance(nn.Sequential(*layers).to(DOUBLE), X, TARGET)


def test_an_lstm_is_refused_by_name() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.cell(x)[0][:, -1])
            return out

    with pytest.raises(ExplanationError, match=r"no rule for the layer cell \(LSTM\)"):
        lrp().relevance(Recurrent(), torch.randn(2, 5, 3), torch.tensor([0, 1]))


def test_the_values_do_not_depend_on_the_scale_of_the_model() -> None:
    small = network()
    with torch.no_grad():
        for parameter in small[-1].parameters():
            parameter.mul_(1e-6)
    found = [lrp(epsilon=0.01).relevance(model, X, TARGET).values for model in (network(), small)]
    torch.testing.assert_close(found[1] * 1e6, found[0])
