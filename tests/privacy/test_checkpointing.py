"""Layers that a checkpoint computes again in the backward pass are recorded once."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from assay.errors import IncompatibleRecipeError
from assay.privacy.clipping import PerRecordGradients
from tests.privacy.networks import Last
from tests.privacy.test_clipping import apart, loop, losses


class Checkpointed(nn.Module):
    """Keeps no activation of its first part."""

    def __init__(self, first: nn.Module, *, reentrant: bool = False) -> None:
        super().__init__()
        self.first, self.head, self.reentrant = first, nn.Linear(4, 3), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.first, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_checkpointed_network_equals_the_loop(recurrent: bool) -> None:
    torch.manual_seed(0)
    first = Last(nn.LSTM(5, 4, batch_first=True)) if recurrent else nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    model = Checkpointed(first).double()
    x, y = torch.randn(6, *([7] if recurrent else []), 5).double(), torch.arange(6) % 3
    expected = loop(copy.deepcopy(model), x, y, 0.2)
    gradients = PerRecordGradients(model)
    for _ in range(3):  # inspected twice, and not
        assert apart(gradients.clipped_sum(losses(model, x, y), 0.2), expected) <= 1e-12


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_a_reentrant_checkpoint_is_refused_with_the_remedy() -> None:
    model = Checkpointed(nn.Linear(5, 4), reentrant=True)
    with pytest.raises(IncompatibleRecipeError) as caught:
        PerRecordGradients(model).clipped_sum(losses(model, torch.randn(6, 5), torch.arange(6) % 3), 1.0)
    assert (caught.value.setting, caught.value.given, caught.value.allowed) == ("use_reentrant", True, False)
