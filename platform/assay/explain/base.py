"""What every kind of explanation gives back."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """How much each input moved the explained logit, and how far the sum misses the truth."""

    values: Tensor
    """(n, ...) signed, in logits."""
    error: Tensor
    """(n,) |sum of values − (explained logit at the record − at the reference)|, in logits: the completeness error of
    integrated gradients, the additivity error of SHAP."""
