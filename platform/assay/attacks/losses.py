"""What an attack climbs: one value a record, greater when the prediction is more wrong."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["cross_entropy", "margin", "dlr"]


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


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Logit of each record's target class minus the true one, (n,): above 0 only where it is misclassified."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def runners_up(logits: Tensor, y: Tensor, most: int) -> Tensor:
    """The wrong classes with the greatest logits, greatest first, (n, at most ``most``)."""
    wrong = logits.nan_to_num().scatter(1, y[:, None], float("-inf"))
    return wrong.topk(min(most, logits.shape[1] - 1), dim=1).indices


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference-of-logits ratio of each record, (n,): the margin in units of the lead over the third class.

    It stays the same when all logits are shifted or multiplied (Croce & Hein 2020, arXiv:2003.01690). Two classes have
    no third, and the margin itself is climbed: attacks that look at a gradient's direction alone lose nothing.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return margin(logits, y) / (first - third).clamp_min(1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
