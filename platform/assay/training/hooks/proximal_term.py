"""The proximal term of FedProx (Li et al. 2020, arXiv:1812.06127)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from assay.training.hooks.round_hook import RoundHook


class ProximalTerm(RoundHook):
    """Adds μ/2 times the squared distance from anchor weights to the loss, as the gradient μ (w - w_anchor).

    The term depends on weights alone, which are known to the server that sent them. It is added after clipping and
    noise and costs no ε. In a federation each round anchors at the weights that the server sent. Until then, or until
    ``anchor`` is called, nothing is added.

    Args:
        strength: μ of every round, at least 0; 0 adds nothing.
    """

    name = "proximal_term"

    def __init__(self, strength: float = 0.0) -> None:
        self._strength = strength
        self._anchor: list[Tensor] = []

    def start_round(self, weights: Sequence[Tensor], sent: Mapping[str, Tensor]) -> None:
        self.anchor(weights, strength=self._strength)

    def end_round(self) -> dict[str, Tensor]:
        self._anchor = []  # the server sends others in the next round, and a client's state stays small
        return {}

    def anchor(self, weights: Sequence[Tensor], *, strength: float) -> None:
        """Sets the weights towards which the term pulls.

        Args:
            weights: of the trainable parameters, in their order; copied.
            strength: μ, at least 0; 0 adds nothing.
        """
        self._strength = strength
        self._anchor = [weight.detach().clone() for weight in weights]

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        if not self._strength or not self._anchor:
            return gradients
        return [
            gradient + self._strength * (weight - anchored.to(weight))
            for gradient, weight, anchored in zip(gradients, weights, self._anchor, strict=True)
        ]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {str(place): tensor for place, tensor in enumerate(self._anchor)}, {"strength": self._strength}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._anchor = [tensors[str(place)] for place in range(len(tensors))]
        self._strength = about["strength"]
