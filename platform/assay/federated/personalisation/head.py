"""The head of a network: the layers that FedPer and FedRep leave at each client."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.base import Personalisation
from assay.registry import unknown_name


class LocalHead(Personalisation):
    """Base class of methods whose head stays at each client: its parameters never travel, in no direction."""

    shares_all: ClassVar[bool] = False
    head: tuple[str, ...] = ()
    """Names of the layers of the head; by default the last layer that has parameters."""

    def refuse(self, network: nn.Module) -> None:
        super().refuse(network)
        names = head_parameters(network, self.head)
        if all(name in names for name, p in network.named_parameters() if p.requires_grad):
            raise IncompatibleRecipeError(
                f"personalisation {self.name} leaves the head at each client, and the head of this network "
                f"({', '.join(sorted(names))}) is all that it trains, so clients would share nothing; choose a deeper "
                "model, a smaller head, or another personalisation",
                setting="federation.personalisation.head",
                given=list(self.head),
            )

    def is_shared(self, network: nn.Module) -> Callable[[str], bool]:
        names = head_parameters(network, self.head)
        return lambda name: name not in names

    def own(self, client: ClientRound, flat: FlatNetwork) -> Tensor:
        if not client.took_part:
            client.notes.append("took part in no round, so the head of its own model is as it was before training")
        return super().own(client, flat)


def head_parameters(network: nn.Module, head: Sequence[str] = ()) -> frozenset[str]:
    """Returns the parameters of a head.

    Args:
        network: with named layers.
        head: names of layers, with all layers inside them; by default the last layer that has parameters.

    Returns:
        Names of the trainable parameters.

    Raises:
        SpecError: the network has no layer of such a name with parameters; lists those that it has.
    """
    trainable = [name for name, p in network.named_parameters() if p.requires_grad]
    layers = [name.rpartition(".")[0] for name in trainable]
    chosen = head or layers[-1:]
    known = list(dict.fromkeys(part for layer in layers for part in _and_above(layer)))
    for name in chosen:
        if name not in known:
            raise unknown_name("layer", name, known, setting="federation.personalisation.head")
    return frozenset(
        name
        for name, layer in zip(trainable, layers, strict=True)
        if any(layer == one or layer.startswith(f"{one}.") for one in chosen)
    )


def _and_above(layer: str) -> list[str]:
    """Returns the name of a layer after the names of those that contain it."""
    parts = layer.split(".")
    return [".".join(parts[: place + 1]) for place in range(len(parts))]
