"""A whole network that a client keeps beside the shared one."""

from torch import Tensor

from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.training.snapshots import under

_WEIGHTS, _BUFFERS = "personal.weights", "personal.buffers"
OWN_TRAINING = "personal"
"""Name of the training of the client's own network."""


def kept_weights(client: ClientRound) -> Tensor | None:
    """Returns the weights that a client keeps for itself.

    Args:
        client: with its state.

    Returns:
        (d,) weights; None if it took part in no round.
    """
    return client.state.tensors.get(_WEIGHTS)


def load_kept(client: ClientRound, flat: FlatNetwork) -> None:
    """Puts the weights and buffers that a client keeps into the network; those of before training if it has none.

    Args:
        client: with its state.
        flat: changed in place.
    """
    weights = kept_weights(client)
    buffers = under(_BUFFERS, client.state.tensors) or flat.initial_buffers
    flat.load(flat.initial if weights is None else weights.to(flat.vector), buffers)


def load_kept_buffers(client: ClientRound, flat: FlatNetwork) -> None:
    """Puts the buffers that a client keeps into the network.

    Args:
        client: with its state.
        flat: changed in place.
    """
    flat.load(flat.vector[:0], under(_BUFFERS, client.state.tensors))


def keep(client: ClientRound, flat: FlatNetwork, weights: Tensor) -> None:
    """Stores weights, and the buffers of the network, in the state of a client.

    Args:
        client: whose state is changed.
        flat: whose buffers are stored.
        weights: (d,) in the order of ``flat.vector``; copied.
    """
    client.state.tensors[_WEIGHTS] = weights.clone()
    client.state.tensors |= {f"{_BUFFERS}.{name}": buffer for name, buffer in flat.buffers().items()}
