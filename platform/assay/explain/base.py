"""The result type of explanation methods."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Contribution of each input to the explained logit, and the error of their sum."""

    values: Tensor
    """(n, ...) signed contributions, in logits."""
    error: Tensor
    """(n,) |sum of values − (explained logit at the record − at the reference)|, in logits: the completeness error of
    integrated gradients, the additivity error of SHAP."""
