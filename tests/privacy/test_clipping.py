"""Per-record gradients against a loop over records."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.objectives.base import Batch
from assay.objectives.pgd import AdversarialPGD
from assay.privacy.clipping import PerRecordGradients
from assay.seeds import Draw
from assay.threats import Bounds

Blobs = Callable[..., tuple[Tensor, Tensor]]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y, reduction="none")


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> list[list[Tensor]]:
    """The gradient of each record by a backward pass of its own."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [list(torch.autograd.grad(losses(model, x[i][None], y[i][None]).sum(), parameters)) for i in range(len(x))]


def loop(model: nn.Module, x: Tensor, y: Tensor, max_grad_norm: float) -> list[Tensor]:
    """Clip each record's gradient, then add."""
    total = [torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
    for gradient in one_by_one(model, x, y):
        length = torch.cat([g.flatten() for g in gradient]).norm()
        factor = min(1.0, max_grad_norm / max(float(length), 1e-30))
        total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
    return total


def length(gradient: list[Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradient]).norm())


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Relative difference of two gradients."""
    return length([a - b for a, b in zip(ours, theirs, strict=True)]) / length(theirs)


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(torch.tanh(self.inner(x))))


def frozen_first_layer() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    model[0].requires_grad_(False)
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 2),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    ),
    "layer norm": lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2, bias=False)),
    "frozen layer": frozen_first_layer,
    "layer used twice": Twice,
}


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]()


@pytest.mark.parametrize("max_grad_norm", [0.01, 0.5, 100.0])
def test_the_clipped_sum_equals_a_loop_over_records(model: nn.Module, blobs: Blobs, max_grad_norm: float) -> None:
    x, y = blobs(12)
    expected = loop(copy.deepcopy(model), x, y, max_grad_norm)
    total = PerRecordGradients(model).clipped_sum(losses(model, x, y), max_grad_norm)
    assert apart(total, expected) <= 1e-5


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), max_grad_norm=st.floats(1e-3, 10))
def test_a_records_clipped_gradient_has_bounded_norm(seed: int, max_grad_norm: float) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    x, y = 10 * torch.randn(1, 5).double(), torch.tensor([seed % 2])
    (whole,) = one_by_one(copy.deepcopy(model), x, y)
    clipped = PerRecordGradients(model).clipped_sum(losses(model, x, y), max_grad_norm)
    assert length(clipped) <= max_grad_norm * (1 + 1e-12)
    assert length(clipped) == pytest.approx(min(length(whole), max_grad_norm), rel=1e-9)


def test_adding_a_record_moves_the_sum_by_at_most_the_clipping_norm(blobs: Blobs) -> None:
    x, y = blobs(12, torch.float64)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    gradients = PerRecordGradients(model)
    whole = gradients.clipped_sum(losses(model, x, y), 0.1)
    for record in range(12):
        others = [i for i in range(12) if i != record]
        without = gradients.clipped_sum(losses(model, x[others], y[others]), 0.1)
        assert length([a - b for a, b in zip(whole, without, strict=True)]) <= 0.1 + 1e-12


def test_a_gradient_of_zero_is_added_as_zero() -> None:
    model = nn.Linear(5, 2)
    total = PerRecordGradients(model).clipped_sum(0 * model(torch.zeros(3, 5)).sum(1), 1.0)
    assert all(torch.equal(g, torch.zeros_like(g)) for g in total)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(5), nn.BatchNorm2d(5), nn.BatchNorm1d(5, affine=False), nn.SyncBatchNorm(5)]
)
def test_batch_norm_is_refused_by_name(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(IncompatibleRecipeError, match=rf"'1.1' is {type(layer).__name__}, which mixes.*GroupNorm"):
        PerRecordGradients(model)
    assert not model[0]._forward_hooks


def remains(model: nn.Module) -> list[str]:
    """Everything that per-record machinery has left on a model."""
    left = [f"{name}.grad" for name, p in model.named_parameters() if p.grad is not None]
    left += [
        f"{name}.grad_sample" for name, p in model.named_parameters() if getattr(p, "grad_sample", None) is not None
    ]
    return left + [f"{name}.activations" for name, m in model.named_modules() if getattr(m, "activations", None)]


def test_paused_leaves_nothing_behind(model: nn.Module, blobs: Blobs) -> None:
    x, y = blobs(12)
    expected = loop(copy.deepcopy(model), x, y, 0.5)
    gradients = PerRecordGradients(model)
    with gradients.paused():
        moved = x.clone().requires_grad_(True)
        torch.autograd.grad(losses(model, moved, y).sum(), moved)
        model(moved)
    assert remains(model) == []
    assert apart(gradients.clipped_sum(losses(model, x, y), 0.5), expected) <= 1e-5


def test_paused_ends_after_an_error_too(blobs: Blobs) -> None:
    x, y = blobs(4)
    model = nn.Linear(5, 2)
    gradients = PerRecordGradients(model)
    with pytest.raises(ZeroDivisionError), gradients.paused():
        raise ZeroDivisionError
    assert length(gradients.clipped_sum(losses(model, x, y), 1.0)) > 0


def test_a_clipped_sum_leaves_nothing_behind(model: nn.Module, blobs: Blobs) -> None:
    gradients = PerRecordGradients(model)
    gradients.clipped_sum(losses(model, *blobs(12)), 0.5)
    assert remains(model) == []


def test_every_batch_stands_for_itself(model: nn.Module, blobs: Blobs) -> None:
    x, y = blobs(12)
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


def test_the_model_stays_what_it_was(blobs: Blobs) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    before, names = copy.deepcopy(model), list(model.state_dict())
    gradients = PerRecordGradients(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model(blobs(4)[0]), before(blobs(4)[0]))
    gradients.remove()
    assert all(not layer._forward_hooks and not layer._backward_hooks for layer in model.modules())
    PerRecordGradients(model)
