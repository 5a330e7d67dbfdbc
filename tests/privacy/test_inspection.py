"""Rounding of autograd's own sums ends no honest training, and hides no gradient that goes unrecorded."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from assay.errors import IncompatibleRecipeError
from assay.privacy import inspection
from assay.privacy.clipping import PerRecordGradients
from assay.privacy.precision import SumsInFloat64
from tests.privacy.networks import Channels

SMALL = 3e-5
"""Factor of what goes unrecorded: the rounding of the same gradient in float32 is longer."""


class Pooled(nn.Module):
    """A convolution's mean over all positions: all gradients of an entry of its bias have one sign."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.pool, self.head = nn.Conv2d(1, 16, 3, padding=1), Channels(), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.layer(x).relu()))


class Checkpointed(Pooled):
    """Computes its layer once more in each backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(checkpoint(self.layer, x, use_reentrant=False).relu()))


class Worded(nn.Module):
    """The mean of many equal words; autograd adds their gradients one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.Embedding(2, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


class Past(Pooled):
    """Uses the bias a little past its layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + SMALL * self.layer.bias.sum() * torch.eye(2)[0].to(x)


class Adds(torch.autograd.Function):
    """Adds nothing, and gives the bias a gradient as if it had."""

    @staticmethod
    def forward(ctx: object, answers: Tensor, bias: Tensor) -> Tensor:
        return answers.clone()

    @staticmethod
    def backward(ctx: object, back: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return back, SMALL * back[:, 0].sum().expand(16)


class Backwards(Pooled):
    """Gives the bias a little more gradient in the backward pass alone."""

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = Adds.apply(super().forward(x), self.layer.bias)
        return answers


def records(model: nn.Module) -> Tensor:
    """Images, or words, of 64 records."""
    if isinstance(model, Worded):
        return torch.ones(64, 2048, dtype=torch.int64)
    return torch.rand(64, 1, 40, 40, generator=torch.Generator().manual_seed(0))


def losses(model: nn.Module) -> Tensor:
    """Of records of one class."""
    return F.cross_entropy(model(records(model)), torch.zeros(64, dtype=torch.int64), reduction="none")


def penalised(model: nn.Module) -> Tensor:
    """Losses of an objective that reads the bias itself."""
    return losses(model) - SMALL / 2 * model.get_parameter("layer.bias").sum()


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> list[SumsInFloat64]:
    """What was computed once more, in float64."""
    made: list[SumsInFloat64] = []
    monkeypatch.setattr(inspection, "SumsInFloat64", lambda: made.append(SumsInFloat64()) or made[-1])
    return made


@pytest.mark.parametrize("make", [Pooled, Checkpointed, Worded])
def test_the_rounding_of_autograd_ends_no_honest_training(make: Callable[[], nn.Module]) -> None:
    model = make()
    sums = PerRecordGradients(model).clipped_sum(losses(model), 1.0)
    assert all(0 < one.norm() <= 64 for one in sums)


@pytest.mark.parametrize(
    ("make", "loss"), [(Past, losses), (Backwards, losses), (Pooled, penalised)], ids=["past", "backwards", "penalised"]
)
def test_a_gradient_that_goes_unrecorded_is_found_though_rounding_is_longer(
    make: Callable[[], nn.Module], loss: Callable[[nn.Module], Tensor]
) -> None:
    model = make()
    with pytest.raises(IncompatibleRecipeError, match=r"'layer.bias' is used where .* cannot record it"):
        PerRecordGradients(model).clipped_sum(loss(model), 1.0)


@pytest.mark.parametrize("suspected", [True, False])
def test_sums_are_computed_once_more_only_where_they_seem_to_differ(
    suspected: bool, in_float64: list[SumsInFloat64]
) -> None:
    model: nn.Module = Worded() if suspected else nn.Sequential(nn.Flatten(), nn.Linear(1600, 2))
    gradients = PerRecordGradients(model)
    for _ in range(3):  # inspected twice, and not
        gradients.clipped_sum(losses(model), 1.0)
    assert len(in_float64) == 2 * suspected


def test_a_sum_is_rounded_once_and_views_changes_and_draws_stay_as_they_are() -> None:
    values, place, nothing = torch.full((2**20,), 0.1), torch.zeros(2**20, dtype=torch.int64), torch.zeros(1)
    short, changed = values.bfloat16(), values.clone()
    torch.manual_seed(0)
    drawn = F.dropout(values)
    with SumsInFloat64():
        total, of_short = nothing.index_add(0, place, values), nothing.bfloat16().index_add(0, place, short)
        changed.view(2, -1).add_(1)
        torch.manual_seed(0)
        assert torch.equal(F.dropout(values), drawn)
    assert torch.equal(total, values.double().sum().float()[None])
    assert torch.equal(of_short, short.double().sum().bfloat16()[None])
    assert torch.equal(changed, values + 1)
