"""A patch lies where it is said to, keeps to the bounds, and breaks a model that looks for a bright corner."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.adversarial_patch import AdversarialPatch, Places, stuck
from assay.threats import Bounds

UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))


def still(middle: list[list[float]], **changes: float) -> Places:
    n = len(middle)
    settings = {"scale": 1.0, "angle": 0.0, "brightness": 0.0, **changes}
    return Places(middle=torch.tensor(middle), **{name: torch.full((n,), value) for name, value in settings.items()})


def test_a_patch_replaces_the_inputs_under_it_and_no_others() -> None:
    x, patch = torch.rand(2, 3, 8, 10), torch.rand(3, 2, 4)
    found = stuck(x, patch, still([[1.0, 2.0], [5.0, 7.0]]), UNIT)
    expected = x.clone()
    expected[0, :, 0:2, 0:4] = patch
    expected[1, :, 4:6, 5:9] = patch
    torch.testing.assert_close(found, expected)


def test_a_signal_has_a_segment_written_anew() -> None:
    x, patch = torch.rand(2, 1, 20), torch.rand(1, 1, 5)
    found = stuck(x, patch, still([[0.5, 2.5], [0.5, 12.5]]), UNIT)
    expected = x.clone()
    expected[0, :, 0:5] = patch[0]
    expected[1, :, 10:15] = patch[0]
    torch.testing.assert_close(found, expected)


def test_a_quarter_turn_is_that_of_the_picture() -> None:
    x, patch = torch.zeros(1, 1, 6, 6), torch.rand(1, 4, 4)
    found = stuck(x, patch, still([[3.0, 3.0]], angle=np.pi / 2), UNIT)
    torch.testing.assert_close(found[0, 0, 1:5, 1:5], patch[0].rot90(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scale", "side"), [(0.5, 4), (1.0, 8), (1.25, 10)])
def test_scale_is_that_of_the_side(scale: float, side: int) -> None:
    found = stuck(torch.zeros(1, 1, 20, 20), torch.ones(1, 8, 8), still([[10.0, 10.0]], scale=scale), UNIT)
    assert int(found.sum()) == side**2


def test_brightness_is_added_and_clipped() -> None:
    patch = torch.tensor([[[0.2, 0.9]]])
    found = stuck(torch.zeros(1, 1, 1, 2), patch, still([[0.5, 1.0]], brightness=0.3), UNIT)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.5, 1.0]))


def test_inputs_that_nobody_can_change_show_through() -> None:
    fixed = torch.zeros(1, 4, 4, dtype=torch.bool)
    fixed[0, 1, 1] = True
    bounds = Bounds(low=UNIT.low, high=UNIT.high, fixed=fixed)
    found = stuck(torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 4, 4), still([[2.0, 2.0]]), bounds)
    assert found[0, 0, 1, 1] == 0.5
    assert int((found == 1).sum()) == 15


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 30), (2, 200)])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_patch_covers_its_share_wherever_it_lies(shape: tuple[int, ...], share: float) -> None:
    attack = AdversarialPatch(share=share, scale=0, rotation=0, brightness=0)
    generator = seeds.stream(0)
    x = torch.zeros(50, *shape)
    places = attack.places(x, generator)
    ones = torch.ones_like(attack.noise(x, UNIT, generator))
    covered = stuck(x, ones, places, UNIT).flatten(1).mean(1)
    assert (covered == covered[0]).all()
    assert float(covered[0]) == pytest.approx(share, rel=0.2)
    assert len(places.middle.unique(dim=0)) == 50


class Corner(nn.Module):
    """Class 1 where the brightest 3×3 square, wherever it lies, is brighter than 0.8; with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.AvgPool2d(3, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        brightest = self.blur(x).amax((1, 2, 3))
        return torch.stack([0 * brightest, 10 * (brightest - 0.8)], 1)


def dim_images(n: int, seed: int) -> Tensor:
    return 0.3 * torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("target", [None, 1])
def test_a_model_that_looks_for_a_bright_square_is_broken_at_any_place(target: int | None) -> None:
    """With blind noise it is not: a patch of random values is half as bright."""
    model, x, y = Corner(), dim_images(40, 0), torch.zeros(40, dtype=torch.long)
    attack, generator = AdversarialPatch(share=0.1, steps=40), seeds.stream(0)
    patch = attack.optimised(model, x, y, UNIT, target=target, generator=generator)
    assert ((patch >= 0) & (patch <= 1)).all()
    fresh = dim_images(60, 1)
    places = attack.places(fresh, generator)
    assert (model(stuck(fresh, patch, places, UNIT)).argmax(1) == 1).all()
    noise = attack.noise(x, UNIT, generator)
    assert (model(stuck(fresh, noise, places, UNIT)).argmax(1) == 0).double().mean() > 0.5


def test_equal_seeds_give_equal_patches_and_leave_the_model_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    x, y = dim_images(20, 0), torch.arange(20) % 2
    attack = AdversarialPatch(steps=3)
    one, again = (attack.optimised(model, x, y, UNIT, target=None, generator=seeds.stream(4)) for _ in range(2))
    assert torch.equal(one, again)
    assert not one.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_that_answers_nan_is_no_crash() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * torch.nan

    x, y = dim_images(8, 0), torch.zeros(8, dtype=torch.long)
    patch = AdversarialPatch(steps=2).optimised(Broken(), x, y, UNIT, target=None, generator=seeds.stream(0))
    assert patch.isfinite().all()
