"""Ditto (Li et al. 2021, arXiv:2012.04221)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.base import Personalisation, train_shared
from assay.federated.personalisation.kept import OWN_TRAINING, keep, kept_weights, load_kept
from assay.registry import register
from assay.training.hooks.base import Hook
from assay.training.hooks.proximal_step import ProximalStep
from assay.training.loop import Trainer


@register("personalisation")
class Ditto(Personalisation):
    """Beside the shared training, each client trains a model of its own that is pulled towards the shared weights.

    The own model v minimises the client's loss plus λ/2 times the squared distance from the weights w that the server
    sent in the round. It starts from the network before training, and takes ``local_epochs`` passes in each round. With
    λ = 0 it is what the client learns alone; as λ grows it becomes the weights that the client was sent last. A client
    that took part in no round has the shared model. Both trainings use the records, so a private recipe pays for both.
    """

    name: Literal["ditto"] = "ditto"
    paper: ClassVar[str] = "Li et al. 2021, arXiv:2012.04221"
    trainings: ClassVar[int] = 2
    strength: float = Field(default=0.1, ge=0)
    """λ."""

    def train(self, client: ClientRound, flat: FlatNetwork, hooks: Sequence[Hook]) -> Trainer:
        received, buffers = flat.vector.clone(), flat.buffers()
        pull = ProximalStep(flat.parameters(), strength=self.strength)
        load_kept(client, flat)
        trainer = client.trainer([pull], training=OWN_TRAINING)
        client.run_round(trainer)
        client.finish(trainer, training=OWN_TRAINING)
        keep(client, flat, flat.vector)
        flat.load(received, buffers)
        return train_shared(client, hooks)

    def own(self, client: ClientRound, flat: FlatNetwork) -> Tensor:
        if kept_weights(client) is not None:
            load_kept(client, flat)
        return flat.vector.clone()
