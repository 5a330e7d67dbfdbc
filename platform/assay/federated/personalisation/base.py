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
    shares_all: ClassVar[bool] = True
    """Whether all parameters are shared, so that the shared network is a model by itself. Otherwise ``is_shared`` says
    which are."""
    local_buffers: ClassVar[bool] = False
    """Whether each client keeps the statistics of its normalisation."""

    def passes(self, rounds: int, local_epochs: int) -> int:
        """Returns how often one training of a client sees each of its records; noise is calibrated for so many.

        Args:
            rounds: of the federation.
            local_epochs: of its shared training, in a round.

        Returns:
            Passes in all rounds and after them.
        """
        return rounds * local_epochs

    def refuse(self, network: nn.Module) -> None:
        """Raises before training if the network does not allow this; call ``super().refuse`` when overriding.

        Args:
            network: of the recipe.

        Raises:
            IncompatibleRecipeError: names what the network lacks.
        """
        return

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
            flat: the client's network with the weights of this round, and its own parameters; afterwards with those
                that training has left.
            hooks: of the strategy, for the training of the shared parameters.

        Returns:
            The trainer of the shared parameters.
        """
        return train_shared(client, hooks)

    def why_no_model(self, client: "ClientRound", network: nn.Module) -> str:
        """Returns why a client has no model of its own after the last round.

        Args:
            client: with its state.
            network: of the recipe.

        Returns:
            The reason; empty if it has one.
        """
        return ""

    def own(self, client: "ClientRound", flat: "FlatNetwork") -> Tensor:
        """Returns the weights of the client's own model after the last round; may train.

        Args:
            client: with its state.
            flat: the client's network with the final shared weights, and its own parameters. Its buffers are those of
                the client's own model when this returns.

        Returns:
            (d,) all trainable parameters, in the order of ``flat.vector``.
        """
        return flat.vector.clone()


def train_shared(client: "ClientRound", hooks: Sequence[Hook]) -> Trainer:
    """Runs the local epochs of one round.

    Args:
        client: makes the trainer.
        hooks: of the strategy.

    Returns:
        The trainer, closed.
    """
    trainer = client.trainer(hooks)
    client.run_round(trainer)
    client.finish(trainer)
    return trainer
