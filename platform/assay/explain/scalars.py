"""The number that an explanation explains: a function of the logits that no common shift of them changes.

A single logit is none: adding the same function of the record to all logits changes no probability, and yet changes
what a logit depends on. With two classes both scalars here are the difference of the logits.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Scalar = Callable[[Tensor, Tensor], Tensor]
"""From logits (n, classes) and targets (n,) to the number that is explained, (n,)."""


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the log-odds of the target: its logit minus the logarithm of the summed exponentials of the others.

    Args:
        logits: (n, classes); at least two classes.
        target: (n,) class numbers.

    Returns:
        (n,) log-odds.
    """
    if logits.shape[1] == 2:
        # The same number by few small operations: they cost as much as a small network.
        return (logits[:, 1] - logits[:, 0]) * (2 * target - 1)
    others = logits.masked_fill(_is_target(logits, target), -torch.inf)
    return _of_target(logits, target) - others.logsumexp(1)


def lead(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the logit of the target minus the mean of the others: linear, for methods that need a linear scalar.

    Args:
        logits: (n, classes); at least two classes.
        target: (n,) class numbers.

    Returns:
        (n,) differences.
    """
    own = _of_target(logits, target)
    return own - (logits.sum(1) - own) / (logits.shape[1] - 1)


def _of_target(logits: Tensor, target: Tensor) -> Tensor:
    return logits.gather(1, target[:, None]).squeeze(1)


def _is_target(logits: Tensor, target: Tensor) -> Tensor:
    return torch.arange(logits.shape[1], device=logits.device) == target[:, None]
