"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from assay.errors import IncompatibleRecipeError
from assay.federated.strategies.base import Cohort, Contribution, ServerState
from assay.federated.strategies.fedavg import Averaging
from assay.recipes import Recipe
from assay.registry import register
from assay.training.hooks.control_variate import CONTROL_VARIATE, ControlVariate
from assay.training.hooks.round_hook import RoundHook


@register("strategy")
class Scaffold(Averaging):
    """Control variates correct each client's drift: local steps follow g_i - c_i + c.

    c_i is the mean of the gradients that client i saw when it last took part, c the average of all c_i, of clients that
    have not taken part yet too (0). ``training.hooks.control_variate`` says how c_i is computed, why momentum is
    allowed, and why it costs no ε. c averages with the same weights as the updates: by records, so that SCAFFOLD
    minimises what federated averaging does and its first round is the same bit for bit; or, with
    ``weighting: clients``, the paper's plain mean.
    """

    name: Literal["scaffold"] = "scaffold"
    paper: ClassVar[str] = "Karimireddy et al. 2020, arXiv:1910.06378"
    summed_vectors: ClassVar[tuple[str, ...]] = (CONTROL_VARIATE,)
    learning_rate: float = Field(default=1.0, gt=0)
    """η of the server."""

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        super().refuse(clients_in_round, recipe)
        if recipe.training.optimizer == "adam":
            raise IncompatibleRecipeError(
                "strategy scaffold adds corrections to gradients that cancel over the clients, and Adam divides them "
                "by figures of each client's own, so that they no longer do; train with optimizer: sgd",
                setting="training.optimizer",
                given="adam",
                allowed="sgd",
            )

    def hooks(self) -> Sequence[RoundHook]:
        return (ControlVariate(),)

    def vector_scale(self, contribution: Contribution) -> float:
        return self.scale(contribution)

    def server(self) -> "VariateStep":
        return VariateStep(self)


class VariateStep(ServerState):
    """The server's control variate c.

    Args:
        settings: of the strategy.
    """

    def __init__(self, settings: Scaffold) -> None:
        self._settings = settings
        self._variate: Tensor | None = None

    def sent(self) -> dict[str, Tensor]:
        return {} if self._variate is None else {CONTROL_VARIATE: self._variate}

    def receive(self, vectors: Mapping[str, Tensor], cohort: Cohort) -> None:
        everybody = cohort.records if self._settings.weighting == "records" else cohort.clients
        change = vectors[CONTROL_VARIATE] / everybody
        self._variate = change if self._variate is None else self._variate + change

    def step(self, weights: Tensor, change: Tensor, cohort: Cohort) -> Tensor:
        return weights + self._settings.learning_rate * change

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.sent(), {}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._variate = tensors.get(CONTROL_VARIATE)
