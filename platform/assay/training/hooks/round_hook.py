"""The base class of hooks that take part in federated rounds."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from assay.training.hooks.base import Hook


class RoundHook(Hook):
    """A hook of a federated client's training that is told when a round begins and ends.

    Its ``state`` is part of the client's state and is stored between rounds. If the server does not accept the reply
    of a round, the client's state of before that round is kept: what the server and the clients hold then still agree.
    """

    def start_round(self, weights: Sequence[Tensor], sent: Mapping[str, Tensor]) -> None:
        """Runs after the client has loaded the weights of the server, before the first step of the round.

        Args:
            weights: trainable parameters in their order, as the server sent them; copy what is to be kept.
            sent: (d,) float64 vectors that the server sent with the weights, by name.
        """
        return

    def end_round(self) -> dict[str, Tensor]:
        """Runs after the last step of the round.

        Returns:
            (d,) float64 vectors by name that the server sums over clients; none by default.
        """
        return {}
