"""The control variate of SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from assay.training.hooks.round_hook import RoundHook

if TYPE_CHECKING:
    from assay.training.loop import Trainer

CONTROL_VARIATE = "control_variate"
"""Name of the vectors between server and clients: the server's variate, and the change of a client's."""


class ControlVariate(RoundHook):
    """Adds c - c_i to every gradient, where c is the server's control variate and c_i that of the client.

    After a round, c_i becomes the mean of the gradients that the client has seen in it, before they were corrected and
    after clipping and noise where training is private, weighted by their steps' learning rates: Σ η_t g_t / Σ η_t. With
    plain SGD this equals option II of the paper, c_i - c + (x - y) / Σ η_t, for any schedule of η; unlike that formula
    it also holds with momentum, whose steps are longer than η g_t. A gradient here is that of the loss, without weight
    decay, which the optimizer adds.

    Both variates start at 0, and then gradients stay as they are. The hook reads nothing but gradients that a private
    update has released, so it costs no ε. What ``end_round`` returns is the change of c_i.
    """

    name = "control_variate"

    def __init__(self) -> None:
        self._own: Tensor | None = None
        self._correction: list[Tensor] | None = None
        self._seen: Tensor | None = None
        self._total: Tensor | None = None
        self._rates = 0.0

    @property
    def variate(self) -> Tensor | None:
        """(d,) float64: c_i; None before the first round."""
        return self._own

    def start_round(self, weights: Sequence[Tensor], sent: Mapping[str, Tensor]) -> None:
        sizes = [weight.numel() for weight in weights]
        if self._own is None:
            self._own = torch.zeros(sum(sizes), dtype=torch.float64, device=weights[0].device)
        self._total, self._rates = torch.zeros_like(self._own), 0.0
        # The server has no variate before the first round.
        difference = sent.get(CONTROL_VARIATE, torch.zeros_like(self._own)).to(self._own) - self._own
        self._correction = None
        if bool(difference.any()):
            parts = difference.split(sizes)
            self._correction = [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        if self._total is None:
            return gradients
        self._seen = torch.cat([gradient.detach().flatten().double() for gradient in gradients])
        if self._correction is None:
            return gradients
        return [gradient + part.to(gradient) for gradient, part in zip(gradients, self._correction, strict=True)]

    def after_step(self, trainer: "Trainer") -> None:
        if self._total is None or self._seen is None:
            return
        rate = float(trainer.optimizer.param_groups[0]["lr"])
        self._total.add_(self._seen, alpha=rate)
        self._rates += rate

    def end_round(self) -> dict[str, Tensor]:
        if self._own is None or self._total is None:
            raise AssertionError("end_round was called before start_round")
        mean = self._total / self._rates if self._rates else self._own
        change = mean - self._own
        self._own, self._total, self._seen, self._correction = mean, None, None, None
        return {CONTROL_VARIATE: change}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns c_i, which is all that lives from one round to the next."""
        return {} if self._own is None else {"variate": self._own}, {}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._own = tensors["variate"].clone() if "variate" in tensors else None
