"""The update as the server sees it: a gradient, or the weight change of a round divided by its learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assay import seeds
from assay.devices import repeatable
from assay.errors import UserError
from assay.recipes import Training
from assay.training.loop import Trainer
from assay.training.update import Update, learning_rate_at

Decode = Callable[[Tensor], Tensor]
"""From the update as the client computed it, (d,), to what the server decodes after compression, (d,)."""


def identity(update: Tensor) -> Tensor:
    """Returns the update unchanged: no compression.

    Args:
        update: (d,) all gradients, one after the other.

    Returns:
        The same tensor.
    """
    return update


@dataclass(frozen=True, kw_only=True)
class ObservedUpdate:
    """What the server receives from one client, as a gradient.

    Raises:
        UserError: a gradient holds NaN or infinity, or no record is behind it.
    """

    gradients: tuple[Tensor, ...]
    """One for each trainable parameter, of its shape; clipped and noised where training is private."""
    records: int
    """Number of records behind it. The server knows it: it is the client's weight in the average."""
    steps: int = 1
    """Local steps that it sums up."""

    def __post_init__(self) -> None:
        if self.records < 1 or not self.gradients:
            raise UserError(
                f"an update of {self.records} records and {len(self.gradients)} gradients tells nothing; give at least "
                "one of each",
                given=self.records,
                allowed=1,
            )
        for place, gradient in enumerate(self.gradients):
            if not bool(gradient.isfinite().all()):
                raise UserError(
                    f"gradient {place} of the update holds NaN or infinity, so nothing can be compared with it; lower "
                    "the learning rate or repair the client",
                    given=place,
                    allowed="finite gradients",
                )

    def decoded(self, decode: Decode) -> "ObservedUpdate":
        """Returns the update as the server decodes it after compression.

        Args:
            decode: compresses and decodes the flat update.

        Returns:
            The decoded update.

        Raises:
            UserError: ``decode`` returns another shape, or NaN or infinity.
        """
        flat = torch.cat([gradient.flatten() for gradient in self.gradients])
        decoded = decode(flat.clone())
        if decoded.shape != flat.shape:
            raise UserError(
                f"decode returned shape {tuple(decoded.shape)} for an update of shape {tuple(flat.shape)}; return the "
                "decoded update in its own shape",
                given=tuple(decoded.shape),
                allowed=tuple(flat.shape),
            )
        parts = decoded.to(flat.dtype).split([gradient.numel() for gradient in self.gradients])
        shaped = (part.view_as(whole) for part, whole in zip(parts, self.gradients, strict=True))
        return replace(self, gradients=tuple(shaped))


def gradient_of_step(trainer: Trainer, rows: Sequence[int], *, draw: int = 0) -> ObservedUpdate:
    """Returns the gradient that a client sends where every step is averaged by the server (FedSGD).

    The client's own trainer computes it: augmentation, crafting, clipping and noise are those of the recipe. No step is
    taken.

    Args:
        trainer: of the client, with the weights that the server sent.
        rows: positions, among the client's records, of the batch.
        draw: number of the step whose noise a private client adds; other numbers give independent noise.

    Returns:
        The update.
    """
    updates: list[Update] = []

    def keep(update: Update) -> Update:
        updates.append(update)
        return update

    trainer.wrap_update(keep)
    batch = torch.as_tensor(rows).numpy()
    trainer.model.train()
    with repeatable(tf32=True), seeds.generators_kept():
        gradients = updates[0].finish(trainer.clipped_sum(batch), batch, draw)
    trainer.model.eval()
    return ObservedUpdate(gradients=tuple(gradient.detach() for gradient in gradients), records=len(batch))


def change_of_round(trainer: Trainer, training: Training, steps: int) -> ObservedUpdate:
    """Trains a client for one round and returns its weight change, divided by the sum of the learning rates.

    Of plain SGD that quotient is the mean of the gradients of all steps; the attacker takes it for a gradient at the
    weights that the server sent. Momentum changes its length alone where all steps see the same gradient. Of Adam it is
    no gradient: one step keeps little more than signs.

    Args:
        trainer: of the client, with the weights that the server sent.
        training: the recipe's, with the learning rate and its schedule.
        steps: of the round.

    Returns:
        The update.

    Raises:
        TrainingError: training diverged.
    """
    before, first = [weights.detach().clone() for weights in trainer.parameters], trainer.step
    trainer.run(steps=steps)
    taken = range(first, trainer.step)
    total = sum(learning_rate_at(training, step, trainer.total_steps) for step in taken)
    changes = [(old - new.detach()) / total for old, new in zip(before, trainer.parameters, strict=True)]
    return ObservedUpdate(gradients=tuple(changes), records=trainer.units, steps=len(taken))
