"""Losses that attacks maximise: one value per record, greater when the prediction is more wrong."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["cross_entropy", "margin", "dlr"]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the cross-entropy of each record.

    Args:
        logits: (n, classes).
        y: (n,) labels.

    Returns:
        (n,) losses.
    """
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the best wrong logit minus the true one: positive exactly where the record is misclassified.

    It does not saturate, so it works on overconfident models (Carlini & Wagner 2017, f6).

    Args:
        logits: (n, classes).
        y: (n,) labels.

    Returns:
        (n,) margins, in logits.
    """
    true = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return others - true


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Returns the logit of a target class minus the true one: above 0 only where the record is misclassified.

    Args:
        logits: (n, classes).
        y: (n,) labels.
        target: (n,) target classes.

    Returns:
        (n,) margins, in logits.
    """
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def runners_up(logits: Tensor, y: Tensor, most: int) -> Tensor:
    """Returns the wrong classes with the greatest logits, greatest first.

    Args:
        logits: (n, classes).
        y: (n,) labels.
        most: greatest number of classes.

    Returns:
        (n, k) classes, where k is ``most`` or the number of wrong classes.
    """
    wrong = logits.nan_to_num().scatter(1, y[:, None], float("-inf"))
    return wrong.topk(min(most, logits.shape[1] - 1), dim=1).indices


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the difference-of-logits ratio: the margin divided by the gap between the first and the third class.

    It does not change when all logits are shifted or scaled (Croce & Hein 2020, arXiv:2003.01690). With two classes
    there
    is no third, and the margin itself is returned: attacks that use only the direction of a gradient lose nothing.

    Args:
        logits: (n, classes).
        y: (n,) labels.

    Returns:
        (n,) ratios, or margins with two classes.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return margin(logits, y) / (first - third).clamp_min(1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
