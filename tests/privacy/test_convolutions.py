"""The gradients and lengths of single records in convolutions of every shape are those of autograd."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from assay.privacy import convolutions
from assay.privacy.convolutions import _Convolution


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_each_record_has_the_gradient_that_autograd_gives_it_alone(
    axes: int, stride: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 most of these are one convolution in as many groups as there are records."""
    torch.manual_seed(0)
    monkeypatch.setattr(convolutions, "_AT_ONCE", 100)  # one record after the other
    near = partial(torch.allclose, rtol=1e-5, atol=1e-8 if dtype == torch.float64 else 1e-5)
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
    shapes = product((1, 2), (1, 2), (0, 1), ("zeros", "circular"), (3,), (1, 2))
    for groups, dilation, padding, mode, kernel, times in shapes:
        layer = kind(
            4, 6, kernel, stride=stride, groups=groups, dilation=dilation, padding=padding, padding_mode=mode
        ).to(dtype)
        x = torch.randn(times * 3, 4, *[9, 8][:axes]).to(dtype)
        out = layer(x)
        backprops, factors = torch.randn_like(out), torch.rand(3).double()
        gradients = [
            torch.autograd.grad((out[row::3] * backprops[row::3]).sum(), layer.weight, retain_graph=True)[0]
            for row in range(3)
        ]
        right = torch.stack(gradients)
        lengths = right.double().flatten(1).square().sum(1)
        with torch.no_grad():
            found = _Convolution(layer, x, backprops, 3)
            assert near(found.each(), right)
            assert near(found.alone(1).to(dtype), right[1])
            assert near(found.stored().norms.double().square(), lengths)
            assert near(found.stored().weighted(factors), torch.einsum("i,i...", factors, right.double()))
            assert near(found.squared_by_product()[:, 0], lengths)
            if times == 1:
                assert near(found.squared_by_pairs()[:, 0], lengths)
