"""FedRep (Collins et al. 2021, arXiv:2102.07078)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.head import LocalHead
from assay.registry import register
from assay.training.hooks.base import Hook
from assay.training.loop import Trainer


@register("personalisation")
class FedRep(LocalHead):
    """Each client first fits its own head to the body that it was sent, and then the body to this head.

    In a round, the head takes ``head_epochs`` passes with the body frozen, then the body ``local_epochs`` passes with
    the head frozen; the update is of the body. Both count as one training, whose steps continue from the head to the
    body: no batch and no noise is drawn twice, and a private recipe pays for each step once. Running statistics of
    batch norm follow the records in both.
    """

    name: Literal["fedrep"] = "fedrep"
    paper: ClassVar[str] = "Collins et al. 2021, arXiv:2102.07078"
    head_epochs: int = Field(default=1, ge=1)
    """Passes of the head in a round, before those of the body."""

    def passes(self, rounds: int, local_epochs: int) -> int:
        return rounds * (self.head_epochs + local_epochs)

    def train(self, client: ClientRound, flat: FlatNetwork, hooks: Sequence[Hook]) -> Trainer:
        body = flat.shared_names
        with training_alone(flat.network, frozenset(flat.names) - body):
            trainer = client.trainer(parameters="head")
            trainer.run(self.head_epochs)
            client.finish(trainer, parameters="head")
        with training_alone(flat.network, body):
            trainer = client.trainer(hooks)
            client.run_round(trainer)
            client.finish(trainer)
        return trainer


@contextmanager
def training_alone(network: nn.Module, names: frozenset[str]) -> Iterator[None]:
    """Freezes all trainable parameters but some.

    Args:
        network: whose parameters require gradients again afterwards.
        names: of the parameters that stay trainable.

    Yields:
        Nothing.
    """
    frozen = [p for name, p in network.named_parameters() if p.requires_grad and name not in names]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
