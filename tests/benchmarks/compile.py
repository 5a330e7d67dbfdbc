"""Whether ``torch.compile`` pays: training steps of networks as they are and compiled, and how long compiling takes.

A step is the forward pass, the loss and the gradient of every weight; with PGD, three steps of the attack come first.
Both ways take the same batch in turn, on one thread, and must have the same gradients first. ``pays_after`` is the
number of steps after which compiling has paid for itself; null if it never does. There is no bar: the figures say
whether the training loop should compile.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.models.resnet import ResNet18

ROUNDS = 9
AGREED = 1e-3
"""How far apart the gradients of both ways may lie, relative to their length."""


def measure() -> dict[str, Any]:
    """Seconds of a step in both ways, seconds of compiling, and the ratios."""
    torch.set_num_threads(1)
    found = {name: _measure(*case) for name, case in _cases().items()}
    return {
        "unit": "seconds of processor time of a step (median), one thread; wall seconds of compiling",
        "torch": torch.__version__,
        "seconds": {name: {way: one[way] for way in ("eager", "compiled", "compiling")} for name, one in found.items()},
        "pays_after": {name: one["pays_after"] for name, one in found.items()},
        "ratio": {name: one["ratio"] for name, one in found.items()},
        "bar": {},
    }


def _cases() -> dict[str, tuple[nn.Module, tuple[int, ...], int, int]]:
    """Returns networks, shapes of their batches, numbers of classes, and steps of PGD."""
    resnet = ResNet18(norm="group", stem="small").build((3, 32, 32), 10, seed=0)
    cnn = CNN(channels=(16, 32, 64)).build((1, 28, 28), 2, seed=0)
    return {
        "mlp": (MLP(hidden=(64,)).build((30,), 2, seed=0), (64, 30), 2, 0),
        "cnn": (cnn, (128, 1, 28, 28), 2, 0),
        "resnet18": (resnet, (16, 3, 32, 32), 10, 0),
        "resnet18_pgd3": (resnet, (16, 3, 32, 32), 10, 3),
    }


def _measure(network: nn.Module, shape: tuple[int, ...], classes: int, attack_steps: int) -> dict[str, Any]:
    """Measures one network."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(shape, generator=generator), torch.randint(classes, shape[:1], generator=generator)
    torch.compiler.reset()
    eager = copy.deepcopy(network)
    compiled = torch.compile(copy.deepcopy(network))
    steps = {way: _step(model, x, y, attack_steps) for way, model in (("eager", eager), ("compiled", compiled))}
    steps["eager"]()
    began = time.perf_counter()
    steps["compiled"]()
    steps["compiled"]()
    compiling = time.perf_counter() - began
    # Without the attack, whose signs turn a last digit into a step.
    expected, given = (_step(model, x, y, 0)() for model in (eager, compiled))
    apart = (_flat(given) - _flat(expected)).norm() / _flat(expected).norm()
    if not float(apart) <= AGREED:
        raise RuntimeError(f"the compiled gradient lies {float(apart):.2g} of its length away: the timing is void")
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    for _ in range(ROUNDS):
        for way, step in steps.items():
            began = time.process_time()
            step()
            seconds[way].append(time.process_time() - began)
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    gain = medians["eager"] - medians["compiled"]
    return {
        **{way: round(value, 5) for way, value in medians.items()},
        "compiling": round(compiling, 1),
        "pays_after": int(compiling / gain) if gain > 0 else None,
        "ratio": round(statistics.median(a / b for a, b in zip(seconds["eager"], seconds["compiled"], strict=True)), 3),
    }


def _step(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, attack_steps: int) -> Callable[[], list[Tensor]]:
    """Returns a function that takes one step without the optimizer's part."""
    assert isinstance(model, nn.Module)
    parameters = list(model.parameters())

    def step() -> list[Tensor]:
        attacked = x
        for _ in range(attack_steps):
            moved = attacked.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(F.cross_entropy(model(moved), y, reduction="sum"), moved)
            attacked = (moved + 0.01 * slope.sign()).clamp(0, 1)
        return list(torch.autograd.grad(F.cross_entropy(model(attacked.detach()), y, reduction="sum"), parameters))

    return step


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
