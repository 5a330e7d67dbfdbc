"""The base class of personalisations: what a client shares, how it trains in a round, and which model is its own."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from assay.registry import Method
from assay.training.hooks.base import Hook
from assay.training.loop import Trainer

if TYPE_CHECKING:
    from assay.federated.client import ClientRound
    from assay.federated.flat import FlatNetwork


class Personalisation(Method):
    """Base class. Register with ``@register("personalisation")``.

    A personal model is trained on its client's records, stored under the client's name, and tested on that client's
    test records; no test record chooses it.
    """

    paper: ClassVar[str] = ""
    """Authors, year and address of the paper."""
    trainings: ClassVar[int] = 1
    """Trainings on the same records, which share the budget of a private recipe."""
    local_buffers: ClassVar[bool] = False
    """Whether each client keeps the statistics of its normalisation."""

    @property
    def further_epochs(self) -> int:
        """Passes of each client over its records after the last round."""
        return 0

    def is_shared(self, network: nn.Module) -> Callable[[str], bool]:
        """Returns which trainable parameters travel between clients and server.

        Args:
            network: of the recipe.

        Returns:
            A function of the name of a parameter; by default all are shared.
        """
        return lambda name: True

    def train(self, client: "ClientRound", flat: "FlatNetwork", hooks: Sequence[Hook]) -> Trainer:
        """Runs the local training of one round; calls ``client.finish`` for each of its trainers.

        Args:
            client: makes trainers and keeps the state.
            flat: the client's network with the weights of this round.
            hooks: of the strategy, for the training of the shared parameters.

        Returns:
            The trainer of the shared parameters.
        """
        return train_shared(client, hooks, further_epochs=self.further_epochs)

    def own(self, client: "ClientRound", flat: "FlatNetwork") -> Tensor:
        """Returns the weights of the client's own model after the last round; may train.

        Args:
            client: with its state.
            flat: the client's network with the final shared weights, and its own parameters.

        Returns:
            (d,) all trainable parameters, in the order of ``flat.vector``.
        """
        return flat.vector.clone()


def train_shared(client: "ClientRound", hooks: Sequence[Hook], *, further_epochs: int = 0) -> Trainer:
    """Runs the local epochs of one round.

    Args:
        client: makes the trainer.
        hooks: of the strategy.
        further_epochs: passes that will follow after the last round.

    Returns:
        The trainer, closed.
    """
    trainer = client.trainer(hooks, further_epochs=further_epochs)
    trainer.run(client.settings.local_epochs)
    client.finish(trainer)
    return trainer
