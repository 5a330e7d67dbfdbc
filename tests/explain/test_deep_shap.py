"""SHAP values where they have a closed form, against brute force, and never where they do not add up."""

import itertools
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.explain.base import ExplanationError
from assay.explain.scalars import lead
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from tests.explaining import deep_shap

DOUBLE = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def mlp() -> nn.Module:
    return MLP(hidden=(16, 8)).build((6,), 3, seed=1).eval()


@pytest.fixture
def x() -> Tensor:
    return draw(7, 6, seed=1)


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 1, 2, 2, 1, 0, 0])


@pytest.fixture
def background() -> Tensor:
    return draw(20, 6, seed=2)


def rise(model: nn.Module, x: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """What the values of each record must sum to."""
    with torch.no_grad():
        own = model.double()
        change = own(x.double()) - own(background.double()).mean(0)
        return lead(change, target)


def test_a_linear_model_is_explained_in_closed_form(x: Tensor, target: Tensor, background: Tensor) -> None:
    model = nn.Linear(6, 3)
    found = deep_shap(model, x, target, background=background)
    other = (model.weight.sum(0) - model.weight[target]) / 2
    expected = (model.weight[target] - other) * (x - background.mean(0))
    assert torch.allclose(found.values, expected, rtol=0, atol=1e-5)
    assert found.values.dtype == x.dtype
    assert found.error.max() < 1e-5


def test_each_record_is_explained_for_its_own_target(
    mlp: nn.Module, x: Tensor, target: Tensor, background: Tensor
) -> None:
    together = deep_shap(mlp, x, target, background=background).values
    for row in range(len(x)):
        alone = deep_shap(mlp, x[row : row + 1], target[row : row + 1], background=background).values
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-6)
    other = deep_shap(mlp, x, (target + 1) % 3, background=background).values
    assert (together - other).abs().flatten(1).amax(1).min() > 1e-3


def layered(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP(hidden=(16, 8)).build((6,), 3, seed=1), (6,)),
    "cnn": (lambda: CNN(channels=(4, 6), hidden=8).build((1, 8, 8), 3, seed=1), (1, 8, 8)),
    "smooth": (layered(nn.Linear(6, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 3)), (6,)),
    "pooled": (layered(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)), (1, 6, 6)),
    "in place": (layered(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), (6,)),
    "unknown but linear": (layered(nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Linear(6, 3)), (6,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_values_sum_to_the_change_of_the_logit(name: str, target: Tensor) -> None:
    make, shape = NETWORKS[name]
    model, x, background = make().eval(), draw(7, *shape, seed=3), draw(12, *shape, seed=4)
    found = deep_shap(model, x, target, background=background)
    assert found.values.shape == x.shape
    missed = (found.values.double().flatten(1).sum(1) - rise(model, x, target, background)).abs()
    assert missed.max() < 1e-5
    assert torch.allclose((found.error * found.scale).double(), missed, rtol=0, atol=1e-6)


def test_an_additive_network_gets_its_exact_shapley_values() -> None:
    """f(x) = Σ g_i(x_i): every neuron sees one feature, so DeepLIFT and Shapley agree."""
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).to(DOUBLE)
    with torch.no_grad():
        model[0].weight.mul_(torch.eye(3, dtype=DOUBLE).repeat(2, 1))  # type: ignore[operator]
    x, background = draw(4, 3, seed=5).double(), draw(9, 3, seed=6).double()
    target = torch.tensor([0, 1, 1, 0])

    def worth(row: int, coalition: tuple[int, ...]) -> float:
        """Mean logit when the coalition's features are the record's and the others the background's."""
        mixed = background.clone()
        mixed[:, list(coalition)] = x[row, list(coalition)]
        with torch.no_grad():
            return float(lead(model(mixed), target[row].expand(len(mixed))).mean())

    exact = torch.zeros(4, 3, dtype=DOUBLE)
    for row, feature in itertools.product(range(4), range(3)):
        others = [other for other in range(3) if other != feature]
        for size in range(3):
            for coalition in itertools.combinations(others, size):
                share = math.factorial(size) * math.factorial(2 - size) / math.factorial(3)
                exact[row, feature] += share * (worth(row, (*coalition, feature)) - worth(row, coalition))
    found = deep_shap(model, x, target, background=background)
    assert torch.allclose(found.values, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_large_logits_are_explained_too(scale: float, mlp: nn.Module, x: Tensor, target: Tensor) -> None:
    background = draw(20, 6, seed=2)
    with torch.no_grad():
        mlp[-1].weight.mul_(scale)  # type: ignore[index, operator]
        mlp[1].weight.mul_(10)  # type: ignore[index, operator]
        assert mlp(x).abs().max() > scale
    found = deep_shap(mlp, x, target, background=background)
    assert found.error.max() < 1e-5
    assert found.values.abs().max() > 0.1 * scale


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Functional(nn.Module):
    """Bends without a layer of its own, so that nobody can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def reused() -> nn.Module:
    bend = nn.ReLU()
    return nn.Sequential(nn.Linear(6, 8), bend, nn.Linear(8, 8), bend, nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (layered(nn.Linear(6, 8), Squared(), nn.Linear(8, 3)), "does not know Squared.*values miss the change"),
        (Functional, "a layer of its own, used once.*values miss the change"),
        (reused, "a layer of its own, used once"),
        (layered(nn.Unflatten(1, (1, 6)), nn.MaxPool1d(3, 1), nn.Flatten(), nn.Linear(4, 3)), "must not overlap|Unfl"),
    ],
)
def test_a_network_that_it_cannot_follow_is_an_error(
    make: Callable[[], nn.Module], said: str, x: Tensor, target: Tensor, background: Tensor
) -> None:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    with pytest.raises(ExplanationError, match=f"(?s){said}"):
        deep_shap(model, x, target, background=background)


def test_a_model_that_answers_nan_is_not_explained(x: Tensor, target: Tensor, background: Tensor) -> None:
    model = nn.Linear(6, 3)
    nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(ExplanationError, match="NaN or infinity for record 0"):
        deep_shap(model, x, target, background=background)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool, x: Tensor, target: Tensor, background: Tensor) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), *([Squared()] if fails else []), nn.Linear(8, 3))
    model.train()
    model(x).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    records, names = x.clone(), {module: set(vars(module)) for module in model.modules()}
    try:
        deep_shap(model, x, target, background=background)
        assert not fails
    except ExplanationError:
        assert fails
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert set(before) == set(model.state_dict())
    assert len(gradients) == 4
    assert all(torch.equal(*pair) for pair in zip(gradients, (p.grad for p in model.parameters()), strict=True))
    for module in model.modules():
        assert module.training
        assert set(vars(module)) == names[module]
        assert not (module._forward_hooks or module._backward_hooks or module._forward_pre_hooks)
    assert model[1].inplace
    assert torch.equal(x, records)
    assert not x.requires_grad


def test_it_works_where_gradients_are_off_and_leaves_the_filters_of_warnings(
    mlp: nn.Module, x: Tensor, target: Tensor, background: Tensor
) -> None:
    filters = list(warnings.filters)
    with torch.no_grad():
        off = deep_shap(mlp, x, target, background=background).values
    assert torch.equal(off, deep_shap(mlp, x, target, background=background).values)
    assert warnings.filters == filters


def test_a_record_that_equals_the_background_does_not_refuse_the_others(
    mlp: nn.Module, x: Tensor, target: Tensor
) -> None:
    background = x[2:3].clone()
    found = deep_shap(mlp, x, target, background=background)
    assert float(found.values[2].abs().max()) < 1e-6
    assert float(found.error.max()) < 0.01


def test_a_layer_whose_entries_depend_on_each_other_is_refused(x: Tensor, target: Tensor, background: Tensor) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Softmax(1), nn.Linear(4, 3))
    with pytest.raises(ExplanationError, match="Softmax"):
        deep_shap(model, x, target, background=background)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_a_network_that_it_cannot_follow_is_refused_at_any_scale(
    scale: float, x: Tensor, target: Tensor, background: Tensor
) -> None:
    torch.manual_seed(0)
    model = Functional()
    with torch.no_grad():
        model.first.weight.mul_(3)
        model.last.weight.mul_(scale)
        model.last.bias.mul_(scale)
    with pytest.raises(ExplanationError, match="values miss the change"):
        deep_shap(model, x, target, background=background)
