"""Checks of explanations: path methods and Shapley values."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import assay.explain.methods  # noqa: F401  # registers the methods
from assay.registry import build
from tests.device.check import Check, Work
from tests.device.networks import SMALL, records, reference, trained

METHODS: dict[str, Any] = {
    "integrated gradients": {"name": "integrated_gradients"},
    "expected gradients": {"name": "expected_gradients"},
    "exact Shapley": {"name": "exact_shapley", "groups": 9},
    "Kernel SHAP": {"name": "kernel_shap", "groups": 16, "budget": 128},
}


def checks() -> Iterator[Check]:
    """Returns the checks of explanations.

    Returns:
        Iterator over the checks.
    """
    for title, asked in METHODS.items():
        for name in SMALL:
            for dtype, within in ((torch.float64, 1e-7), (torch.float32, 5e-3)):
                yield Check(
                    name=f"explanation · {title} · {name}", run=partial(explain, asked, name), dtype=dtype,
                    within=within, quick=name == "MLP" and dtype == torch.float64,
                )  # fmt: skip


def explain(asked: Any, name: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Explains some records.

    Args:
        asked: the method with its settings.
        name: of the network.
        device: explains there.
        dtype: of weights and records.

    Returns:
        The contributions, and the change that they add up to.
    """
    n = 6
    x, y = records(name, n, start=900)
    model = trained(name, device, dtype)
    method: Any = build("explainer", asked)
    found = method.explain(model, x.to(device, dtype), y.to(device), reference(name, device, dtype), seed=0)
    assert found.values.device.type == device.type, f"values lie on {found.values.device}"
    return Work(values={"values": found.values, "change": found.change}, steps=1, passed=n)
