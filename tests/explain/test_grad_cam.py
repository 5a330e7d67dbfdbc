"""Grad-CAM where it is known: one hot patch, the layer that ran last, and what it cannot explain."""

import pytest
import torch
from torch import Tensor, nn

from assay.explain.base import Explainer, ExplanationError
from assay.explain.methods.grad_cam import GradCam, GuidedGradCam
from tests.explaining import reference

ONE = torch.tensor([1])


class Bright(nn.Module):
    """Answers by the brightest pixel; ``inplace`` as the network's ReLU is."""

    def __init__(self, *, inplace: bool = False, sign: float = 1.0) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(inplace=inplace)
        self.sign = sign
        nn.init.constant_(self.conv.weight, 1 / 9)

    def forward(self, x: Tensor) -> Tensor:
        value = self.sign * self.relu(self.conv(x)).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(value), value], 1)


def test_one_hot_patch_is_found_where_it_is() -> None:
    x = torch.zeros(1, 1, 40, 80)
    x[..., 4:7, 59:62] = 1.0
    found = GradCam().explain(Bright(), x, ONE, reference(torch.zeros(1, 1, 40, 80), "image")).values
    row, column = divmod(int(found.argmax()), 80)
    assert (abs(row - 5) <= 1, abs(column - 60) <= 1) == (True, True)


def test_a_map_that_is_negative_everywhere_is_empty() -> None:
    x = torch.rand(1, 1, 8, 8)
    found = GradCam().explain(Bright(sign=-1.0), x, ONE, reference(torch.zeros(1, 1, 8, 8), "image")).values
    assert not found.any()


@pytest.mark.parametrize("explainer", [GradCam(), GuidedGradCam()])
def test_a_layer_that_works_in_place_changes_no_map(explainer: Explainer) -> None:
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    about = reference(torch.zeros(1, 1, 8, 8), "image")
    torch.testing.assert_close(*(explainer.explain(Bright(inplace=i), x, ONE, about).values for i in (False, True)))


def test_the_layer_that_ran_last_counts_not_the_one_that_was_registered_last() -> None:
    class Turned(nn.Module):
        def __init__(self, *, turned: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            layers = [("late", nn.Conv2d(3, 4, 3)), ("early", nn.Conv2d(1, 3, 3))]
            for name, layer in layers if turned else reversed(layers):
                self.add_module(name, layer)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.late(self.early(x).relu()).relu().mean((2, 3)))
            return out

    x = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    about = reference(torch.zeros(1, 1, 9, 9), "image")
    maps = [GradCam().explain(Turned(turned=t), x, torch.tensor([0, 1]), about).values for t in (False, True)]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize(
    ("model", "shape", "modality"),
    [
        (nn.Sequential(nn.Linear(6, 2)), (6,), "tabular"),
        (nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), (6,), "tabular"),
        (nn.Sequential(nn.Conv1d(5, 2, 3), nn.Flatten(), nn.Linear(2, 2)), (5, 3), "text"),
    ],
)
def test_what_has_no_map_is_refused(model: nn.Module, shape: tuple[int, ...], modality: str) -> None:
    x = torch.ones(1, *shape)
    with pytest.raises(ExplanationError, match="Grad-CAM needs"):
        GradCam().explain(model, x, ONE, reference(torch.zeros(1, *shape), modality))  # type: ignore[arg-type]
