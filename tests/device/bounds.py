"""Checks of proofs: interval bounds and randomised smoothing."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from assay.bounds.interval import certified_by_intervals, logits_and_worst
from assay.bounds.smoothing import Smoothing, certify
from assay.threats import Threat
from tests.device.check import Check, Work
from tests.device.networks import SMALL, UNIT, records, trained


def checks() -> Iterator[Check]:
    """Returns the checks of proofs.

    Returns:
        Iterator over the checks.
    """
    for name in ("X-ray CNN", "MLP", "ResNet-18"):
        yield Check(
            name=f"interval bounds · {name}", run=partial(boxes, name), dtype=torch.float64, within=1e-9,
            quick=name == "MLP",
        )  # fmt: skip
        yield Check(
            name=f"interval bounds · {name}", run=partial(boxes, name), dtype=torch.float32, within=1e-3, records=0
        )
    for name in ("X-ray CNN", "LSTM"):
        yield Check(
            name=f"smoothing · {name}", run=partial(smoothed, name), dtype=torch.float32, within=0.1, records=1,
            quick=name == "LSTM",
        )  # fmt: skip


def boxes(name: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Bounds the logits in boxes around records, with the gradient of certified training.

    Args:
        name: of the network.
        device: computes there.
        dtype: of weights and records.

    Returns:
        Logits, worst logits and gradients, and how many records are certified.
    """
    n = 16 if name in SMALL else 4
    x, y = (one.to(device) for one in records(name, n, start=900))
    model = trained(name, device, dtype)
    x = x.to(dtype)
    logits, worst = logits_and_worst(model, x, x - 1e-3, x + 1e-3, y)
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(worst.logsumexp(1).sum(), list(weights.values()))
    proven = certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=1e-3, bounds=UNIT))
    return Work(
        values={"logits": logits, "worst": worst, **dict(zip(weights, gradients, strict=True))},
        counts={"certified": proven.sum().cpu()},
        steps=1,
        passed=n,
    )


def smoothed(name: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Certifies a smoothed network.

    Args:
        name: of the network.
        device: computes there.
        dtype: of weights and records.

    Returns:
        The radii, and how often each class was the answer.
    """
    n, asked = 6, Smoothing(sigma=0.25, samples=400, selection_samples=50)
    x, _ = records(name, n, start=900)
    found = certify(trained(name, device, dtype), x.to(device, dtype), UNIT, asked, seed=0, names=np.arange(n))
    answers = torch.bincount(torch.from_numpy(found.answer + 1), minlength=5)
    return Work(
        values={"radius": torch.from_numpy(found.radius)},
        counts={"answers": answers},
        steps=n,
        passed=n * asked.passes,
    )
