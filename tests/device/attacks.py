"""Checks of attacks: the curve of PGD, and the parts of AutoAttack."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from assay.registry import build
from assay.threats import Threat
from tests.device.check import Check, Work
from tests.device.networks import SMALL, UNIT, records, trained

RADII = (0.0, 0.01, 0.02, 0.05, 0.1)
PARTS: dict[str, Any] = {
    "APGD, cross-entropy": {"name": "apgd", "steps": 10},
    "APGD, DLR": {"name": "apgd", "steps": 10, "loss": "dlr"},
    "FAB": {"name": "fab", "steps": 10},
    "Square": {"name": "square", "queries": 100},
}


def checks() -> Iterator[Check]:
    """Returns the checks of attacks.

    Returns:
        Iterator over the checks.
    """
    pgd = {"name": "pgd", "steps": 10}
    for name in (*SMALL, "ResNet-18"):
        yield Check(
            name=f"attack curve · PGD · {name}", run=partial(curve, pgd, name), dtype=torch.float64, within=1e-6,
            records=0, quick=name == "MLP", seconds=20 if name not in SMALL else 5,
        )  # fmt: skip
        yield Check(
            name=f"attack curve · PGD · {name}", run=partial(curve, pgd, name), dtype=torch.float32, within=1e-3,
            records=2,
        )  # fmt: skip
    for title, asked in PARTS.items():
        for name in ("X-ray CNN", "MLP"):
            yield Check(
                name=f"attack curve · {title} · {name}", run=partial(curve, asked, name), dtype=torch.float32,
                within=1e-3, records=2, quick=name == "MLP" and title == "FAB", seconds=10,
            )  # fmt: skip


def curve(asked: Any, name: str, device: torch.device, dtype: torch.dtype) -> Work:
    """Attacks some records over a grid of radii.

    Args:
        asked: the attack with its settings.
        name: of the network.
        device: attacks there.
        dtype: of weights and records.

    Returns:
        The logits of the records, and how many were fooled at each radius.
    """
    n = 48 if name in SMALL else 8
    x, y = records(name, n, start=900)
    model = trained(name, device, dtype)
    given, labels = x.to(device, dtype), y.to(device)
    threat = Threat(norm="linf", epsilon=0.0, bounds=UNIT)
    attack: Any = build("attack", asked)
    found = attack.curve(model, given, labels, threat, RADII, seed=3)
    fooled = torch.tensor([int(found[radius].fooled.sum()) for radius in sorted(found)])
    with torch.no_grad():
        return Work(values={"logits": model(given)}, counts={"fooled": fooled}, steps=len(RADII), passed=n * len(RADII))
