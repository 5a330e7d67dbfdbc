"""FedBN (Li et al. 2021, arXiv:2102.07623)."""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.base import Personalisation
from assay.registry import register

_BATCH = nn.modules.batchnorm._BatchNorm
_NORMALISATION = (_BATCH, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


@register("personalisation")
class FedBN(Personalisation):
    """Each client keeps its normalisation layers: scale, shift and running statistics; all else is averaged.

    A client that took part in no round has no statistics of its own, so it has no model, unless ``adaptation`` says how
    it gets them.
    """

    name: Literal["fedbn"] = "fedbn"
    paper: ClassVar[str] = "Li et al. 2021, arXiv:2102.07623"
    shares_all: ClassVar[bool] = False
    local_buffers: ClassVar[bool] = True
    adaptation: Literal["none", "statistics"] = "none"
    """For clients that took part in no round. ``statistics``: they take the running statistics of their training
    records, under the final shared weights and the scale and shift from before training."""

    def refuse(self, network: nn.Module) -> None:
        super().refuse(network)
        if not any(isinstance(module, _NORMALISATION) for module in network.modules()):
            raise IncompatibleRecipeError(
                "personalisation fedbn keeps normalisation layers at each client, and this network has none, so all "
                "clients would have the same model; choose a model with normalisation, or another personalisation",
                setting="federation.personalisation",
                given=self.name,
            )
        if self.adaptation == "statistics" and not any(_with_statistics(network)):
            raise IncompatibleRecipeError(
                "personalisation fedbn adapts running statistics of batch norm, and this network has none; set "
                "adaptation to none",
                setting="federation.personalisation.adaptation",
                given=self.adaptation,
                allowed="none",
            )

    def is_shared(self, network: nn.Module) -> Callable[[str], bool]:
        own = {
            f"{name}.{parameter}" if name else parameter
            for name, module in network.named_modules()
            if isinstance(module, _NORMALISATION)
            for parameter, _ in module.named_parameters(recurse=False)
        }
        return lambda name: name not in own

    def why_no_model(self, client: ClientRound, network: nn.Module) -> str:
        if client.took_part or self.adaptation != "none":
            return ""
        return (
            "took part in no round, so it has no normalisation of its own; let it take part, or state the adaptation "
            "of such clients (adaptation: statistics)"
        )

    def own(self, client: ClientRound, flat: FlatNetwork) -> Tensor:
        if not client.took_part:
            take_statistics(flat.network, client.records(), at_once=client.batch_size)
            client.notes.append("took part in no round; its normalisation has the statistics of its training records")
        return flat.vector.clone()


@torch.no_grad()
def take_statistics(network: nn.Module, x: Tensor, *, at_once: int) -> None:
    """Replaces the running statistics of batch norm by those of some records.

    Args:
        network: changed in place; in evaluation mode afterwards.
        x: (n, ...) records.
        at_once: records of a batch; all batches but the last have as many, and count equally.
    """
    layers = list(_with_statistics(network))
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average over the batches
        layer.train()
    for batch in x.split(at_once):
        if len(batch) > 1:
            network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def _with_statistics(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    for module in network.modules():
        if isinstance(module, _BATCH) and module.running_mean is not None:
            yield module
