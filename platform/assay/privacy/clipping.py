"""Per-record gradients and their clipped sum (Abadi et al. 2016, arXiv:1607.00133). Gradients come from Opacus."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError

# The records need no gradient of their own here, and Opacus' hooks need none of theirs: the notice is beside the point.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)

_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)


class PerRecordGradients:
    """Hooks on a model that split the gradient of a sum of losses into one gradient a record.

    The model itself stays what it was: the same module, the same parameter names.

    Raises:
        IncompatibleRecipeError: a layer mixes the records of a batch.
    """

    def __init__(self, model: nn.Module) -> None:
        for name, layer in model.named_modules():
            if isinstance(layer, _MIXING):
                raise IncompatibleRecipeError(
                    f"layer {name!r} is {type(layer).__name__}, which mixes the records of a batch; record-level "
                    "privacy needs GroupNorm or LayerNorm instead"
                )
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._hooks = GradSampleHooks(model, loss_reduction="sum")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forward and backward passes in here (an attack on the model, say) leave no per-record gradients."""
        self._hooks.disable_hooks()
        try:
            yield
        finally:
            self._hooks.enable_hooks()

    def clipped_sum(self, losses: Tensor, max_grad_norm: float) -> list[Tensor]:
        """Sum over records of each gradient scaled to norm at most ``max_grad_norm``, one tensor a parameter.

        Args:
            losses: (n,) one loss a record, each a function of its own record alone. A layer may have answered k times
                for each, in one forward pass of k · n rows: all records, then all again.
            max_grad_norm: clipping norm over all parameters together.
        """
        losses.sum().backward()
        per_record = [self._take(parameter, len(losses)) for parameter in self._parameters]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in per_record]).norm(dim=0)
        factors = (max_grad_norm / norms.clamp_min(1e-12)).clamp_max(1.0)
        return [torch.einsum("n,n...->...", factors, gradient) for gradient in per_record]

    def remove(self) -> None:
        """Take the hooks off the model."""
        self._hooks.remove_hooks()

    def _take(self, parameter: nn.Parameter, n: int) -> Tensor:
        """(n, ...) the gradient of each record, over all rows that a layer was given for it."""
        gradient = parameter.grad_sample  # type: ignore[attr-defined]
        parameter.grad_sample = None  # type: ignore[attr-defined]
        parameter.grad = None
        if not isinstance(gradient, Tensor):
            gradient = torch.stack(gradient).sum(0)
        return gradient if len(gradient) == n else gradient.unflatten(0, (-1, n)).sum(0)
