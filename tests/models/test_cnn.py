"""The convolutional network fits its images, trains privately and can be bounded."""

import pytest
import torch

from assay.bounds.interval import interval
from assay.errors import SpecError
from assay.models.cnn import CNN
from assay.privacy.clipping import PerRecordGradients


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 7, 9)])
@pytest.mark.parametrize("channels", [(4,), (4, 6, 8)])
def test_any_image_becomes_logits(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    model = CNN(channels=channels, hidden=5).build(shape, 3, seed=0)
    assert model(torch.rand(6, *shape)).shape == (6, 3)


def test_records_without_height_and_width_are_refused() -> None:
    with pytest.raises(SpecError, match=r"cnn needs images .* shape \(30,\): use mlp"):
        CNN().build((30,), 2, seed=0)


def test_bounds_hold_what_the_network_answers() -> None:
    model = CNN(channels=(4, 6)).build((1, 8, 8), 10, seed=0)
    x = torch.rand(5, 1, 8, 8)
    low, high = interval(model, x - 0.1, x + 0.1)
    for _ in range(20):
        answer = model(x + 0.2 * torch.rand_like(x) - 0.1)
        assert ((answer >= low - 1e-5) & (answer <= high + 1e-5)).all()


def test_it_has_gradients_record_by_record() -> None:
    model = CNN(channels=(4, 6)).build((1, 8, 8), 10, seed=0)
    gradients = PerRecordGradients(model)
    x = torch.rand(4, 1, 8, 8)
    whole = gradients.clipped_sum(model(x).square().sum(1), 1e9)
    gradients.remove()
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for ours, theirs in zip(whole, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
