"""Fine-tuning of the shared model at each client."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.base import Personalisation
from assay.registry import register


@register("personalisation")
class FineTuning(Personalisation):
    """After the last round, each client trains the shared model further on its own records, with the same recipe.

    Clients that took part in no round do so too. The further passes belong to the client's training: a schedule of the
    learning rate ends after them, and a private recipe calibrates its noise for them.
    """

    name: Literal["fine_tuning"] = "fine_tuning"
    paper: ClassVar[str] = "Wang et al. 2019, arXiv:1910.10252"
    epochs: int = Field(default=1, ge=1)
    """Passes after the last round."""

    def passes(self, rounds: int, local_epochs: int) -> int:
        return rounds * local_epochs + self.epochs

    def own(self, client: ClientRound, flat: FlatNetwork) -> Tensor:
        trainer = client.trainer()
        trainer.run(self.epochs)
        client.finish(trainer)
        return flat.vector.clone()
