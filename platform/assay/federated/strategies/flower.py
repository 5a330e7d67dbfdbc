"""Strategies of Flower, run unmodified."""

import inspect
import logging
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from assay.errors import IncompatibleRecipeError, SpecError
from assay.federated.strategies.base import Strategy
from assay.recipes import Recipe
from assay.registry import register, unknown_name

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy as FlowerStrategy

STRATEGIES = (
    "Bulyan",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedMedian",
    "FedProx",
    "FedTrimmedAvg",
    "FedYogi",
    "Krum",
    "MultiKrum",
    "QFedAvg",
)
"""Flower's classes that aggregate weights. Its wrappers of other strategies, and those of XGBoost, are not here."""
_OF_THE_RUNTIME = (
    "fraction_train",
    "fraction_evaluate",
    "min_train_nodes",
    "min_evaluate_nodes",
    "min_available_nodes",
    "weighted_by_key",
    "train_loss_key",
    "arrayrecord_key",
    "configrecord_key",
)
"""Arguments that the runtime sets: who takes part stands in ``federation``, and the keys are those of its messages."""
_LIPSCHITZ = "client_learning_rate"


@register("strategy")
class Flower(Strategy):
    """A strategy of ``flwr.serverapp.strategy``, run unmodified: its arithmetic, its faults and its messages.

    ``flower:FedAdam`` is short for ``{name: flower, strategy: FedAdam}``. It is shown the
    trainable parameters as one array, and the server's own counts as ``num-examples``; buffers follow
    ``federation.buffers`` as with every strategy. The strategy of the plain name does what the paper says.
    """

    name: Literal["flower"] = "flower"
    shorthand: ClassVar[str] = "strategy"
    needs_single_updates: ClassVar[bool] = True
    strategy: str
    """Name of the class, such as ``FedAdam``."""
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Arguments of the class, except those that the runtime sets."""

    def model_post_init(self, context: Any) -> None:
        """Refuses an unknown class, and arguments that it does not take."""
        if self.strategy not in STRATEGIES:
            raise unknown_name("strategy of Flower", self.strategy, list(STRATEGIES), setting="strategy")
        allowed = allowed_settings(self.strategy)
        for given in self.settings:
            if given in _OF_THE_RUNTIME:
                raise SpecError(
                    f"{given} of Flower's {self.strategy} is set by the federation; remove it. Allowed: "
                    f"{', '.join(allowed) or 'none'}",
                    setting="settings",
                    given=given,
                    allowed=allowed,
                )
            if given not in allowed:
                raise unknown_name(f"setting of Flower's {self.strategy}", given, allowed, setting="settings")
        self._check_types()
        self._construct({_LIPSCHITZ: 1.0} if _LIPSCHITZ in allowed else {})

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        super().refuse(clients_in_round, recipe)
        malicious = int(self.settings.get("num_malicious_nodes", 0))
        least = {"Bulyan": 4 * malicious + 3, "Krum": 2 * malicious + 3, "MultiKrum": 2 * malicious + 3}
        if clients_in_round < least.get(self.strategy, 1):
            raise IncompatibleRecipeError(
                f"Flower's {self.strategy} with num_malicious_nodes {malicious} needs {least[self.strategy]} clients, "
                f"and a round may have {clients_in_round}: Flower would go on all the same; let more take part, or "
                "lower num_malicious_nodes",
                setting="federation.strategy",
                given=clients_in_round,
                allowed=least[self.strategy],
            )
        beta = Fraction(str(self.settings.get("beta", 0.2)))
        if self.strategy == "FedTrimmedAvg" and beta * clients_in_round < 1:
            raise IncompatibleRecipeError(
                f"Flower's FedTrimmedAvg with beta {float(beta):g} trims nobody of {clients_in_round} clients; let "
                "more take part, or raise beta",
                setting="federation.strategy",
                given=clients_in_round,
                allowed=math.ceil(1 / beta),
            )
        if self.strategy == "QFedAvg" and recipe.privacy is not None:
            raise IncompatibleRecipeError(
                "Flower's QFedAvg needs the training loss of every client, and private clients do not send it; choose "
                "another strategy, or drop privacy",
                setting="federation.strategy",
                given=self.strategy,
            )
        if self.strategy == "QFedAvg" and _LIPSCHITZ not in self.settings and recipe.training.optimizer == "adam":
            raise IncompatibleRecipeError(
                "Flower's QFedAvg takes 1 / client_learning_rate for the Lipschitz constant of the gradients, and "
                "Adam's learning rate says nothing about it; set client_learning_rate in settings",
                setting="federation.strategy.settings",
                given="adam",
            )

    def _check_types(self) -> None:
        """Refuses values of another type than the signature says, which Flower would accept and fail by later."""
        parameters = inspect.signature(flower_class(self.strategy)).parameters
        for setting, value in self.settings.items():
            kind = parameters[setting].annotation
            fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise SpecError(
                    f"{setting} of Flower's {self.strategy} is {value!r}; it takes a value of type {kind.__name__}",
                    setting=f"settings.{setting}",
                    given=value,
                    allowed=kind.__name__,
                )

    def build(self, recipe: Recipe, **of_the_runtime: Any) -> "FlowerStrategy":
        """Returns Flower's strategy.

        Args:
            recipe: gives the local learning rate to ``QFedAvg``, where the settings do not.
            of_the_runtime: arguments that the runtime sets, such as ``fraction_train``.

        Returns:
            A fresh strategy.
        """
        if _LIPSCHITZ in allowed_settings(self.strategy):
            of_the_runtime.setdefault(_LIPSCHITZ, recipe.training.learning_rate)
        return self._construct(of_the_runtime)

    def _construct(self, further: Mapping[str, Any]) -> "FlowerStrategy":
        logging.getLogger("flwr").setLevel(logging.ERROR)  # It warns of settings that the runtime chooses on purpose.
        try:
            return flower_class(self.strategy)(**{**further, **self.settings})
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"Flower's {self.strategy} does not take {self.settings}: {error}",
                setting="settings",
                given=self.settings,
                allowed=allowed_settings(self.strategy),
            ) from error


def flower_class(name: str) -> Any:
    """Returns a class of ``flwr.serverapp.strategy``.

    Args:
        name: one of ``STRATEGIES``.

    Returns:
        The class.
    """
    from flwr.serverapp import strategy

    return getattr(strategy, name)


def allowed_settings(name: str) -> list[str]:
    """Returns the arguments of one of Flower's strategies that a recipe may set, by its signature.

    Args:
        name: one of ``STRATEGIES``.

    Returns:
        Names of the arguments; functions, and what the runtime sets, are not among them.
    """
    arguments = inspect.signature(flower_class(name)).parameters.values()
    return [
        argument.name
        for argument in arguments
        if argument.name not in _OF_THE_RUNTIME and argument.annotation in (float, int, str, bool)
    ]
