"""The protocol of hooks: what a hook may do to a training, and when the loop calls it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from assay.training.loop import Trainer


class Hook(Protocol):
    """Observes a training, changes its gradients or weights, or ends it.

    Derive from this class, set ``name``, and write only the methods that are needed: all others do nothing. A trainer
    calls its hooks in the order in which they were given to it.

    Privacy: hooks run after clipping and noise. One that reads nothing but weights, gradients and the step processes
    what the private update has released, so it costs no ε (post-processing, Dwork & Roth 2014, proposition 2.1).
    One that reads records, of training or validation, would cost ε that no accountant counts: a recipe that asks for
    such a hook is refused with privacy (``incompatible.INCOMPATIBLE``), and a hook from outside must not be given to
    a private training if it reads them.

    Several workers: each worker has hooks of its own, which must take the same decisions on all of them. Weights,
    gradients and the step are equal on all workers; a sum over records goes through the ``Collective`` that the hook is
    made with, as in ``probe.Probe``.
    """

    name: str
    """Names the hook's state in a checkpoint; no two hooks of a trainer share one."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that users of the model should read."""
        return ()

    @property
    def figures(self) -> Mapping[str, Sequence[float]]:
        """Figures for the log of the training, by name, in the order in which they were measured."""
        return {}

    def begin(self, trainer: "Trainer") -> None:
        """Starts from the weights that the trainer holds now.

        Called before the first step, and again whenever something else than a step has replaced the weights: a server
        sent others (``Trainer.receive``), or another hook restored earlier ones (``Trainer.roll_back``).

        Args:
            trainer: with its model, optimizer and number of finished steps.
        """
        return

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Returns the gradients that the optimizer uses at a step.

        Args:
            step: number of the step, from 0.
            weights: of the trainable parameters before the step, in their order; not to be changed in place.
            gradients: of the batch's mean loss, one a parameter, of its shape; clipped and noised where the recipe is
                private, and changed by the hooks before this one. Their type may be wider than that of the weights.

        Returns:
            The gradients, changed or not, in the same order and shapes.
        """
        return gradients

    def after_step(self, trainer: "Trainer") -> None:
        """Runs after each step. ``Trainer.step`` already counts it, and the model is in training mode.

        Args:
            trainer: with the new weights.
        """
        return

    def after_epoch(self, trainer: "Trainer", *, last: bool) -> None:
        """Runs after each epoch. It may replace the weights, and put the model in evaluation mode.

        Args:
            trainer: its ``epoch`` counts the one that has just ended.
            last: whether no step is left. Training also ends early, where a hook calls ``Trainer.stop``.
        """
        return

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the state that a fresh hook needs to resume: tensors by name, and the rest, JSON-able."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Restores what ``state`` returned; ``begin`` has been called before.

        Args:
            tensors: by name.
            about: the rest of the state.
        """
        return


def by_name(hooks: Iterable[Hook]) -> dict[str, Hook]:
    """Returns the hooks by their names, in order.

    Args:
        hooks: in the order in which they run.

    Returns:
        Each hook under its ``name``.

    Raises:
        ValueError: two hooks have one name, so that a checkpoint could not tell their states apart.
    """
    named: dict[str, Hook] = {}
    for hook in hooks:
        if hook.name in named:
            raise ValueError(
                f"two hooks are called {hook.name!r}: a checkpoint keeps the state of each by its name; rename one"
            )
        named[hook.name] = hook
    return named
