"""Certificates: proofs that a predicted class does not change within a radius."""

from typing import Any

from torch import Tensor

from serve.repository.online import Online

ABOUT = {"norm": "linf", "method": "interval bounds", "holds_for": "this model, answering without randomness"}


async def certificates(online: Online, x: Tensor, epsilons: list[float]) -> list[dict[str, Any]]:
    """Certifies the predicted classes of records.

    Args:
        online: the version that answers.
        x: (n, ...) records.
        epsilons: radii (L∞) in the units of the data.

    Returns:
        One mapping a record: its class, and whether it is proven within each radius.
    """
    names = online.model.dataset.class_names
    target, proven = await online.certify(x, tuple(epsilons))
    return [{"class_name": names[k], "certified": row} for k, row in zip(target.tolist(), proven.tolist(), strict=True)]
