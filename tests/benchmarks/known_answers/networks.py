"""Small networks whose explanations are known, all from records to two logits (0, score) unless it is said."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DOUBLE = torch.float64


class Score(nn.Module):
    """Two logits: a shift of both, and the score on top of it for class 1."""

    def __init__(self, score: Callable[[Tensor], Tensor], shift: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.score, self.shift = score, shift

    def forward(self, x: Tensor) -> Tensor:
        value = self.score(x)
        common = torch.zeros_like(value) if self.shift is None else self.shift(x)
        return torch.stack([common, common + value], dim=1)


def linear(*weights: float) -> nn.Linear:
    """A linear layer whose logits differ by the weighted sum of the inputs."""
    layer = nn.Linear(len(weights), 2, bias=False).to(DOUBLE)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)], dtype=DOUBLE))
    return layer


def shifted_linear(shift: float) -> nn.Linear:
    """Logits (c·x₃, 2x₁ − x₂ + c·x₃)."""
    layer = linear(2.0, -1.0, 0.0)
    with torch.no_grad():
        layer.weight[:, 2] += shift
    return layer


def perceptron(inputs: int = 6, *, scale: float = 1.0, seed: int = 0) -> nn.Sequential:
    """A ReLU network in float64 with drawn weights."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, 2)).to(DOUBLE)
    with torch.no_grad():
        network[2].weight.mul_(scale)
        network[2].bias.mul_(scale)
    return network.eval()


class FunctionalReLU(nn.Module):
    """The same kind of network with a ReLU that is a function and no layer."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        made = perceptron(scale=scale)
        self.first, self.last = made[0], made[2]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)))


class ReusedReLU(nn.Module):
    """Two linear layers that share one ReLU layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.last = (
            nn.Linear(*size).to(DOUBLE) for size in ((6, 8), (8, 8), (8, 2))
        )  # fmt: skip
        self.bend = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.bend(self.second(self.bend(self.first(x)))))


def layered(*layers: nn.Module) -> nn.Sequential:
    """Layers in float64, in evaluation mode, with drawn weights."""
    network = nn.Sequential(*layers).to(DOUBLE).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) / parameter.shape[-1] ** 0.5
            )
    return network


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


class CountedWords(nn.Module):
    """Score of a text: the mean over its words of the sum of their entries, plus one half if there is a word at all."""

    def forward(self, x: Tensor) -> Tensor:
        real = (x != 0).any(-1)
        mean = (x.sum(-1) * real).sum(1) / real.sum(1).clamp_min(1)
        score = mean + 0.5 * real.any(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


class UnusedAttention(nn.Module):
    """Attends to the last word alone, and answers by the first one: the head of the attention is multiplied by 0."""

    attention = True

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0].sum(-1) + 0 * x[:, -1].sum(-1)
        return torch.stack([-score, score], 1)

    def attention_weights(self, x: Tensor) -> Tensor:
        weights = x.new_zeros(x.shape[:2])
        weights[:, -1] = 1
        return weights


def hot_patch() -> tuple[nn.Sequential, Tensor]:
    """A convolution that finds bright patches, with stride 2, and a 40 × 80 image with one at row 5, column 60."""
    network = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(1, 2))
    network = network.to(DOUBLE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight.fill_(1 / 9)
        network[4].weight[1] = 1.0
    image = torch.zeros(1, 1, 40, 80, dtype=DOUBLE)
    image[0, 0, 4:7, 59:62] = 1.0
    return network, image
