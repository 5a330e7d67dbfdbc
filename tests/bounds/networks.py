"""Small networks with drawn weights, and boxes of records around them."""

import copy
import itertools

import torch
from torch import Tensor, nn

from assay.bounds.interval import _followed, _worst
from assay.bounds.interval_tensor import IntervalTensor
from assay.models.resnet import Basic, Bottleneck, ResNet, Stem
from assay.threats import Bounds, Norm, Threat

DOUBLE = torch.float64


ROUNDING = 1e-9


def worst_logits(model: nn.Module, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """The worst logits of boxes alone, (n, classes): see ``logits_and_worst``, which has records beside them."""
    return _worst(_followed(model, IntervalTensor.between(low, high)), y)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """The network in float64 and evaluation mode, every weight and statistic drawn anew."""
    draw = generator(seed)
    model = model.to(DOUBLE).eval().requires_grad_(False)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=draw, dtype=DOUBLE)
                tensor.copy_(drawn.abs() + 0.1 if name.endswith("running_var") else drawn)
    return model


def one_hidden(seed: int, *, inputs: int = 3, hidden: int = 5, classes: int = 3) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    return randomised(model, seed)  # type: ignore[return-value]


def two_hidden(seed: int) -> nn.Module:
    return randomised(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), seed)


def convolutional(seed: int) -> nn.Module:
    features = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
    return randomised(nn.Sequential(features, nn.Flatten(), nn.Linear(12, 6), nn.LeakyReLU(0.1), nn.Linear(6, 3)), seed)


def box(shape: tuple[int, ...], radius: float, seed: int) -> tuple[Tensor, Tensor]:
    """A box of one record, narrower in some inputs than in others."""
    draw = generator(seed + 1)
    centre = torch.randn((1, *shape), generator=draw, dtype=DOUBLE)
    reach = radius * torch.rand((1, *shape), generator=draw, dtype=DOUBLE)
    return centre - reach, centre + reach


def inside(low: Tensor, high: Tensor, count: int, seed: int) -> Tensor:
    """Records of the box: half of them corners."""
    share = torch.rand((count, *low.shape[1:]), generator=generator(seed + 2), dtype=DOUBLE)
    share[: count // 2] = share[: count // 2].round()
    return low + share * (high - low)


def corners(low: Tensor, high: Tensor) -> Tensor:
    ends = torch.stack([low.flatten(), high.flatten()], 1).tolist()
    return torch.tensor(list(itertools.product(*ends)), dtype=DOUBLE).view(-1, *low.shape[1:])


def small_blocks(kind: type[Basic] | type[Bottleneck], seed: int) -> nn.Module:
    """One residual block whose shortcut has weights, and one whose shortcut has none."""
    width = 2 if kind is Basic else 1
    first, second = kind(1, width, 2, nn.BatchNorm2d), kind(width * kind.expansion, width, 1, nn.BatchNorm2d)
    end = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(width * kind.expansion, 3))
    return randomised(nn.Sequential(first, second, *end), seed)


def residual_network(kind: type[Basic] | type[Bottleneck], seed: int, *, stem: Stem = "small") -> nn.Module:
    """All four sizes, with few channels."""
    torch.manual_seed(seed)
    network = ResNet(kind, (1, 1, 1, 1), 1, 3, norm="batch", stem=stem, width=2)
    statistics = dict(randomised(copy.deepcopy(network), seed).named_buffers())
    network.load_state_dict(statistics, strict=False)
    return network.to(DOUBLE).eval().requires_grad_(False)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


def wide(norm: Norm, epsilon: float, reach: float = 100.0) -> Threat:
    bounds = Bounds(low=torch.tensor(-reach, dtype=DOUBLE), high=torch.tensor(reach, dtype=DOUBLE))
    return Threat(norm=norm, epsilon=epsilon, bounds=bounds)
