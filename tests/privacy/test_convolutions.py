"""The gradients and lengths of single records in convolutions of every shape are those of autograd."""

from itertools import product

import pytest
import torch
from torch import nn

from assay.privacy.bookkeeping import _Convolution


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_each_record_has_the_gradient_that_autograd_gives_it_alone(axes: int, stride: int) -> None:
    torch.manual_seed(0)
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
    shapes = product((1, 2), (1, 2), (0, 1), ("zeros", "circular"), (3,), (1, 2))
    for groups, dilation, padding, mode, kernel, times in shapes:
        layer = kind(
            4, 6, kernel, stride=stride, groups=groups, dilation=dilation, padding=padding, padding_mode=mode
        ).double()
        x = torch.randn(times * 3, 4, *[9, 8][:axes]).double()
        out = layer(x)
        backprops, factors = torch.randn_like(out), torch.rand(3).double()
        gradients = [
            torch.autograd.grad((out[row::3] * backprops[row::3]).sum(), layer.weight, retain_graph=True)[0]
            for row in range(3)
        ]
        right = torch.stack(gradients)
        lengths = right.flatten(1).square().sum(1)
        with torch.no_grad():
            found = _Convolution(layer, x, backprops, 3)
            assert torch.allclose(found.each(), right)
            assert torch.allclose(found.alone(1), right[1])
            assert torch.allclose(found.stored().norms.square(), lengths)
            assert torch.allclose(found.stored().weighted(factors), torch.einsum("i,i...", factors, right))
            assert torch.allclose(found.squared_by_product()[:, 0], lengths)
            if times == 1:
                assert torch.allclose(found.squared_by_pairs()[:, 0], lengths)
