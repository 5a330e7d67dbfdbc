"""APFL (Deng et al. 2020, arXiv:2003.13461)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.federated.client import ClientRound
from assay.federated.flat import FlatNetwork
from assay.federated.personalisation.base import Personalisation, train_shared
from assay.federated.personalisation.kept import OWN_TRAINING, keep, kept_weights, load_kept, load_kept_buffers
from assay.registry import register
from assay.training.hooks.base import Hook

if TYPE_CHECKING:
    from assay.training.loop import Trainer


@register("personalisation")
class APFL(Personalisation):
    """Each client's own model is the mixture α v + (1 - α) w of weights v of its own and the shared weights w.

    v takes the gradient of the loss of the mixture, which is the model that is tested, after the last round with the
    final w. v starts from the network before training. While v is trained, w is what the server sent in this round; in
    the paper it follows the client's own training step by step. A client that took part in no round has the shared
    model. Both trainings use the records, so a private recipe pays for both; α follows from gradients that it has
    released and costs nothing more.
    """

    name: Literal["apfl"] = "apfl"
    paper: ClassVar[str] = "Deng et al. 2020, arXiv:2003.13461"
    trainings: ClassVar[int] = 2
    alpha: float = Field(default=0.5, ge=0, le=1)
    """α of the first round: 0 is the shared model, 1 what the client learns alone."""
    adaptive: bool = True
    """Whether each client changes its α by gradient descent, at the first step of each round, within [0, 1]."""
    alpha_learning_rate: float = Field(default=0.1, gt=0)
    """Learning rate of α."""

    def train(self, client: ClientRound, flat: FlatNetwork, hooks: Sequence[Hook]) -> "Trainer":
        received, buffers = flat.vector.clone(), flat.buffers()
        shared = flat.parameters()
        load_kept(client, flat)
        alpha = float(client.state.values.get("alpha", self.alpha))
        mixture = Mixture(flat.parameters(), shared, alpha=alpha, rate=self.alpha_learning_rate * self.adaptive)
        trainer = client.trainer([mixture], training=OWN_TRAINING)
        client.run_round(trainer)
        client.finish(trainer, training=OWN_TRAINING)
        mixture.put_own(trainer)
        client.state.values["alpha"] = mixture.alpha
        keep(client, flat, flat.vector)
        flat.load(received, buffers)
        return train_shared(client, hooks)

    def own(self, client: ClientRound, flat: FlatNetwork) -> Tensor:
        kept = kept_weights(client)
        if kept is None:
            return flat.vector.clone()
        load_kept_buffers(client, flat)
        alpha = float(client.state.values["alpha"])
        return alpha * kept.to(flat.vector) + (1 - alpha) * flat.vector


class Mixture(Hook):
    """Computes gradients at the mixture of two sets of weights, and lets the optimizer change one of them.

    Args:
        own: v, one tensor a trainable parameter; copied.
        shared: w, in the same order.
        alpha: share of v.
        rate: learning rate of α; 0 leaves it as it is.
    """

    name = "mixture"

    def __init__(self, own: Sequence[Tensor], shared: Sequence[Tensor], *, alpha: float, rate: float = 0.0) -> None:
        self._own = [tensor.clone() for tensor in own]
        self._shared, self._rate = list(shared), rate
        self._parameters: list[Tensor] = []
        self._next = self.alpha = alpha
        self._asked = False

    def begin(self, trainer: "Trainer") -> None:
        self._parameters = [parameter.detach() for parameter in trainer.parameters]
        self._put_mixture()

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        if self._rate and not self._asked:
            pairs = zip(gradients, self._own, self._shared, strict=True)
            slope = sum(float(((own - shared).to(g) * g).sum()) for g, own, shared in pairs)
            self._next = min(1.0, max(0.0, self.alpha - self._rate * slope))
        self._asked = True
        for parameter, own in zip(self._parameters, self._own, strict=True):
            parameter.copy_(own)  # the optimizer steps from v; the gradient was taken at the mixture
        return [self.alpha * gradient for gradient in gradients]

    def after_step(self, trainer: "Trainer") -> None:
        self._own = [parameter.clone() for parameter in self._parameters]
        self.alpha = self._next
        self._put_mixture()

    def put_own(self, trainer: "Trainer") -> None:
        """Puts v into the model in place of the mixture.

        Args:
            trainer: that has run.
        """
        for parameter, own in zip(trainer.parameters, self._own, strict=True):
            parameter.detach().copy_(own)

    def _put_mixture(self) -> None:
        for parameter, own, shared in zip(self._parameters, self._own, self._shared, strict=True):
            torch.add(self.alpha * own, shared, alpha=1 - self.alpha, out=parameter)
