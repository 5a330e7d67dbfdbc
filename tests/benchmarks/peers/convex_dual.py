"""Processor seconds of a training step of ResNet-50: PGD-7 and the convex dual, in the environment of the peers.

Run by ``python -m jobs.benchmark certified-claim`` with the interpreter of ``make peers``; imports nothing of Assay,
whose PyTorch is newer than the one that auto_LiRPA works with. Prints JSON.

The dual of Wong and Kolter (arXiv:1711.00851) is a linear bound that runs backwards through the network with one slope
for both sides of each ReLU; auto_LiRPA computes it as backward bounds with the option ``same-slope``. Bounds of the
layers in between come from intervals, as running backwards from each of a ResNet-50's million units would take days a
step; so the figure is a lower bound of what the dual costs.
"""

import json
import sys
import time
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON, STEPS = 8 / 255, 7


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential() if plain else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """The small-image stem: one 3×3 convolution, no pooling before the blocks."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inputs = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(inputs, 10))


def pgd_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Seven steps of ascent, then one step of the weights on what they found."""
    model.eval()
    moved = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(STEPS):
        moved = moved.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(moved), y), moved)
        moved = (x + (moved + EPSILON / 4 * gradient.sign() - x).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(moved.detach()), y).backward()
    optimizer.step()


def dual_step(bounded: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Bounds of every wrong logit minus the true one by the dual, their cross-entropy, and a step of the weights."""
    from auto_LiRPA import BoundedTensor, PerturbationLpNorm

    ball = PerturbationLpNorm(
        norm=float("inf"), eps=EPSILON, x_L=(x - EPSILON).clamp(0, 1), x_U=(x + EPSILON).clamp(0, 1)
    )
    eye = torch.eye(10)
    differences = eye[y].unsqueeze(1) - eye.unsqueeze(0)
    optimizer.zero_grad()
    records = (BoundedTensor(x, ball),)
    least, _ = bounded.compute_bounds(x=records, C=differences, method="CROWN-IBP", bound_upper=False)
    F.cross_entropy(-least, y).backward()
    optimizer.step()


def main() -> None:
    records, rounds = int(sys.argv[1]), int(sys.argv[2])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from auto_LiRPA import BoundedModule

    x, y = torch.rand(records, 3, 32, 32), torch.randint(10, (records,))
    model = resnet50()
    bounded = BoundedModule(model, x, bound_opts={"relu": "same-slope", "conv_mode": "matrix"})
    bounded.train()
    networks = {"pgd7": (model, pgd_step), "convex_dual": (bounded, dual_step)}
    optimizers = {name: torch.optim.SGD(one.parameters(), lr=1e-5) for name, (one, _) in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, (one, step) in networks.items():
            started = time.process_time()
            step(one, optimizers[name], x, y)
            seconds[name].append(time.process_time() - started)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
