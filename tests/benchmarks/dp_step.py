"""A private step against a plain one and against Opacus: seconds of processor time and peak memory.

A step is the forward pass, the loss and the (clipped) gradient of every weight. Drawing the noise is left out of the
ratios, since it depends on the generator alone, and stands beside them. All modes take the same batch through the same
network in turn, on one thread, and a ratio is the median over rounds, in which both ran one after the other; Opacus,
which is far from its bar, takes part in some rounds alone. First the private ones must agree, or there is nothing
to compare. Memory is what the allocator handed out, weights included.
"""

import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.cluster.memory import keep_freed_memory
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.models.resnet import ResNet18
from assay.privacy.clipping import PerRecordGradients
from tests.allocations import peak_bytes

MAX_GRAD_NORM = 1.0
PEERS = ("opacus_hooks", "opacus_ghost")
BARS = {"mlp": 1.2, "cnn": 1.45, "lstm": 1.8, "resnet18": 1.35}
"""A private step in times of a plain one."""
AGREED = 1e-4
"""How far apart the clipped sums of two modes may lie, relative to their length."""
MEMORY_BAR = 1.5
"""Of a private step's peak, in those of a plain one."""


@dataclass(frozen=True)
class Case:
    """A network and the shape of its batch."""

    model: nn.Module
    shape: tuple[int, ...]
    classes: int
    rounds: int
    """Times that a plain and a private step run one after the other."""
    with_peers: int
    """In how many of these rounds Opacus takes part."""

    def batch(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.shape, generator=generator)
        return x, torch.randint(self.classes, (len(x),), generator=generator)


Step = Callable[[], Sequence[Tensor]]


def measure() -> dict[str, Any]:
    """Seconds and bytes of a step of every network and mode, their ratios and the bars."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every worker does that trains
    found = {name: _measure(case) for name, case in _cases().items()}
    over_plain = {name: _times(one, "ours", "plain") for name, one in found.items()}
    over_ours = {n: min(_times(one, peer, "ours") for peer in PEERS) for n, one in found.items()}
    memory = {name: one["bytes"]["ours"] / one["bytes"]["plain"] for name, one in found.items()}
    return {
        "unit": "seconds of processor time of a step (median) and MiB at its peak",
        "processor": _processor(),
        "seconds": {
            name: {mode: round(statistics.median(_seconds(one, mode)), 5) for mode in one["bytes"]}
            for name, one in found.items()
        },
        "noise_seconds": {name: round(one["noise"], 5) for name, one in found.items()},
        "peak_mib": {name: {k: round(v / 2**20, 1) for k, v in one["bytes"].items()} for name, one in found.items()},
        "private_over_plain": {name: round(value, 3) for name, value in over_plain.items()},
        "memory_over_plain": {name: round(value, 3) for name, value in memory.items()},
        "ratio": {
            **{f"bar_over_{name}": round(bar / over_plain[name], 3) for name, bar in BARS.items()},
            **{f"opacus_over_{name}": round(value, 3) for name, value in over_ours.items()},
            **{f"memory_bar_over_{name}": round(MEMORY_BAR / value, 3) for name, value in memory.items()},
        },
        "bar": {
            **{f"bar_over_{name}": 1.0 for name in BARS},
            **{f"opacus_over_{name}": 1.0 for name in found},
            **{f"memory_bar_over_{name}": 1.0 for name in found},
        },
    }


def _cases() -> dict[str, Case]:
    """The networks of the studies; what their records hold does not change what a step costs."""
    return {
        "mlp": Case(MLP(hidden=(512, 512)).build((784,), 10, seed=0), (256, 784), 10, 100, 10),
        "cnn": Case(CNN(channels=(16, 32, 64)).build((1, 28, 28), 2, seed=0), (128, 1, 28, 28), 2, 40, 8),
        "lstm": Case(LSTM(hidden=64, dropout=0.0).build((50, 100), 2, seed=0), (64, 50, 100), 2, 40, 8),
        "resnet18": Case(
            ResNet18(norm="group", stem="small").build((3, 32, 32), 10, seed=0), (32, 3, 32, 32), 10, 9, 2
        ),
    }


def _processor() -> str:
    """The name of the processor, which every ratio here depends on."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores, 1 thread"


def _refuse_disagreement(steps: dict[str, Step]) -> None:
    """Modes that give other sums have no times to compare; each runs once, which warms it too."""
    found = {name: torch.cat([one.double().flatten() for one in step()]) for name, step in steps.items()}
    for peer in PEERS:
        apart = float((found["ours"] - found[peer]).norm() / found["ours"].norm())
        if not apart <= AGREED:
            raise RuntimeError(f"the clipped sums of ours and {peer} are {apart:.1e} apart: their times are void")


def _measure(case: Case) -> dict[str, Any]:
    steps = _steps(case)
    _refuse_disagreement(steps)
    for _ in range(2):  # the first updates ask the model whether it keeps records apart
        steps["ours"]()
    rounds = [
        {name: _timed(step) for name, step in steps.items() if name not in PEERS or number < case.with_peers}
        for number in range(case.rounds)
    ]
    weights = list(case.model.parameters())
    held = sum(p.numel() * p.element_size() for p in weights)
    generator = seeds.stream(0, "noise")
    return {
        "rounds": rounds,
        "noise": statistics.median(
            _timed(lambda: [generator.standard_normal(p.shape, np.float32) for p in weights]) for _ in range(5)
        ),
        "bytes": {name: held + peak_bytes(step) for name, step in steps.items()},
    }


def _seconds(found: dict[str, Any], mode: str) -> list[float]:
    """Of each round in which a mode took part."""
    return [one[mode] for one in found["rounds"] if mode in one]


def _times(found: dict[str, Any], mode: str, other: str) -> float:
    """How much longer a mode takes than another: the median over rounds, in which both ran one after the other."""
    return statistics.median(one[mode] / one[other] for one in found["rounds"] if mode in one and other in one)


def _steps(case: Case) -> dict[str, Step]:
    x, y = case.batch()
    plain, ours = copy.deepcopy(case.model).train(), copy.deepcopy(case.model).train()
    parameters = list(plain.parameters())
    gradients = PerRecordGradients(ours)

    def losses(model: nn.Module) -> Tensor:
        return F.cross_entropy(model(x), y, reduction="none")

    return {
        "plain": lambda: torch.autograd.grad(losses(plain).sum(), parameters),
        "ours": lambda: gradients.clipped_sum(losses(ours), MAX_GRAD_NORM),
        "opacus_hooks": _opacus_hooks(copy.deepcopy(case.model).train(), losses),
        "opacus_ghost": _opacus_ghost(copy.deepcopy(case.model).train(), losses),
    }


def _opacus_hooks(model: nn.Module, losses: Callable[[nn.Module], Tensor]) -> Step:
    """What ``DPOptimizer.clip_and_accumulate`` does, without its loop over batches."""
    wrapped = GradSampleModule(model, loss_reduction="sum")

    def step() -> list[Tensor]:
        losses(wrapped).sum().backward()
        parameters = [p for p in wrapped.parameters() if p.requires_grad]
        norms = torch.stack([p.grad_sample.flatten(1).norm(2, dim=-1) for p in parameters], 1).norm(2, dim=1)
        factors = (MAX_GRAD_NORM / (norms + 1e-6)).clamp(max=1.0)
        found = [torch.einsum("i,i...", factors, p.grad_sample) for p in parameters]
        wrapped.zero_grad(set_to_none=True)
        return found

    return step


def _opacus_ghost(model: nn.Module, losses: Callable[[nn.Module], Tensor]) -> Step:
    """What ``DPTensorFastGradientClipping.backward`` does: two backward passes."""
    wrapped = GradSampleModuleFastGradientClipping(model, loss_reduction="sum", max_grad_norm=MAX_GRAD_NORM)

    def step() -> list[Tensor]:
        found = losses(wrapped)
        found.sum().backward(retain_graph=True)
        wrapped.zero_grad(set_to_none=True)
        factors = wrapped.get_clipping_coef()
        wrapped.disable_hooks()
        (factors * found).sum().backward()
        wrapped.enable_hooks()
        gradients = [p.grad for p in wrapped.parameters() if p.grad is not None]
        wrapped.zero_grad(set_to_none=True)
        return gradients

    return step


def _timed(step: Callable[[], object]) -> float:
    started = time.process_time()  # what others do on the machine counts little
    step()
    return time.process_time() - started
