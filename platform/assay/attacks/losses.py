"""What an attack climbs: one value a record, greater when the prediction is more wrong."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["cross_entropy", "margin"]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each record, (n,)."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the true one, (n,): positive exactly where the record is misclassified.

    It does not saturate, so it sees through confident models (Carlini & Wagner 2017, f6).
    """
    true = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return others - true


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """Which records are answered wrongly, or not with finite numbers, (n,) bool."""
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin}
