"""Restricts a strategy's hook to the parameters that all clients share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from assay.training.hooks.round_hook import RoundHook

if TYPE_CHECKING:
    from assay.training.loop import Trainer


class SharedPart(RoundHook):
    """A hook that sees the shared parameters alone: what a strategy adds, such as FedProx's pull towards the weights of
    the server, concerns no layer of a client's own.

    Args:
        hook: of the strategy.
        shared: names of the shared parameters.
    """

    def __init__(self, hook: RoundHook, shared: frozenset[str]) -> None:
        self.name = hook.name
        self._hook, self._shared = hook, shared
        self._places: list[int] = []

    def begin(self, trainer: "Trainer") -> None:
        trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
        self._places = [place for place, name in enumerate(trained) if name in self._shared]

    def start_round(self, weights: Sequence[Tensor], sent: Mapping[str, Tensor]) -> None:
        """Starts a round; see ``RoundHook.start_round``.

        Args:
            weights: the shared parameters alone.
            sent: vectors of the server.
        """
        self._hook.start_round(weights, sent)

    def end_round(self) -> dict[str, Tensor]:
        return self._hook.end_round()

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        theirs = [weights[place] for place in self._places], [gradients[place] for place in self._places]
        changed = list(gradients)
        for place, gradient in zip(self._places, self._hook.gradients(step, *theirs), strict=True):
            changed[place] = gradient
        return changed

    def after_step(self, trainer: "Trainer") -> None:
        self._hook.after_step(trainer)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._hook.state()

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._hook.restore(tensors, about)
