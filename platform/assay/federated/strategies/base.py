"""The base class of strategies: what the server knows of a round, and how it becomes new weights.

The server works on one flat vector: the *trainable* parameters in the order of ``Trainer.parameters``, d numbers in
float64. Buffers, such as the statistics of batch norm, are no part of it. An *update* is a client's weights after its
local training minus the weights that it was sent, so new weights are old weights **plus** a change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from assay.errors import FederationError, IncompatibleRecipeError
from assay.recipes import Recipe
from assay.registry import Method
from assay.training.hooks.round_hook import RoundHook


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What the server knows about one client's reply, which it has checked; no size that a client claims."""

    client: int
    records: int
    """Records of the client by the server's own count; protected units where training is private."""
    steps: int
    """Optimiser steps that the client took in this round."""
    learning_rate_sum: float
    """Sum of the learning rates of these steps."""
    loss: float | None = None
    """Mean training loss over the first local epoch of the round; None from private clients."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The clients of one round whose replies were accepted, in the order of their numbers."""

    number: int
    """Number of the round, from 1."""
    clients: int
    """Clients of the whole federation, drawn in this round or not."""
    records: int
    """Records of the whole federation, in the units of ``Contribution.records``."""
    contributions: Sequence[Contribution]


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over the clients of a round: all that a strategy sees that does not ask for single updates."""

    changes: Tensor
    """(d,) float64: sum of ``Strategy.scale`` times the update divided by ``Strategy.divisor``."""
    scales: float
    """Sum of ``Strategy.scale``."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Sums of the numbers of ``Strategy.scalars``."""


class ServerState(Protocol):
    """The server's optimiser in one training; derive from this class and write ``step``.

    A state that is restored continues as if it had never been stored, counters of rounds included.
    """

    def step(self, weights: Tensor, change: Tensor, cohort: Cohort) -> Tensor:
        """Returns the new global weights.

        Args:
            weights: (d,) float64 global weights that the clients were sent; not to be changed in place.
            change: (d,) float64 combined change of the clients, as ``combine_sum`` or ``combine`` returns it.
            cohort: the round.

        Returns:
            (d,) float64 weights.
        """
        ...

    def sent(self) -> dict[str, Tensor]:
        """Returns vectors that every client receives together with the weights of a round.

        Returns:
            (d,) float64 vectors by name; none by default. A client's ``RoundHook.start_round`` gets them.
        """
        return {}

    def receive(self, vectors: Mapping[str, Tensor], cohort: Cohort) -> None:
        """Takes up the sums of the vectors that the clients' hooks returned; called once a round, before ``step``.

        Args:
            vectors: (d,) float64 by name: sums of ``Strategy.vector_scale`` times what ``RoundHook.end_round`` returned
                at each client. The names are ``Strategy.summed_vectors``.
            cohort: the round.
        """
        return

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns what ``restore`` needs to continue: tensors by name, and the rest, JSON-able."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Restores what ``state`` returned.

        Args:
            tensors: by name.
            about: the rest of the state.
        """
        return


class PlainStep(ServerState):
    """Adds the change to the weights; it has no state.

    Args:
        learning_rate: factor of the change.
    """

    def __init__(self, learning_rate: float = 1.0) -> None:
        self._learning_rate = learning_rate

    def step(self, weights: Tensor, change: Tensor, cohort: Cohort) -> Tensor:
        return weights + self._learning_rate * change


class Strategy(Method):
    """Base class. Register with ``@register("strategy")``.

    A strategy is frozen settings; what changes during a training is in its ``ServerState`` and in its clients' hooks.
    By default it averages the updates, weighted by records. One that works on sums overrides ``scale`` and
    ``combine_sum``; one that must see each update sets ``needs_single_updates`` and writes ``combine``.
    """

    paper: ClassVar[str] = ""
    """Authors, year and address of the paper."""
    needs_single_updates: ClassVar[bool] = False
    """Whether ``combine`` sees each client's update, so that no secure aggregation is possible."""
    needs_losses: ClassVar[bool] = False
    """Whether it uses the clients' training losses, which private clients do not send."""
    summed_vectors: ClassVar[tuple[str, ...]] = ()
    """Names of the further vectors that clients' hooks return and the server sums; see ``ServerState.receive``."""

    @property
    def least_clients(self) -> int:
        """Least number of accepted replies of which a round can be made."""
        return 1

    def refuse(self, clients_in_round: int, recipe: Recipe) -> None:
        """Raises before training if this strategy cannot work; call ``super().refuse`` when overriding.

        Args:
            clients_in_round: least number of clients whose replies a round may consist of, by the round policy.
            recipe: the recipe that is trained.

        Raises:
            IncompatibleRecipeError: too few clients, or a local training that does not fit.
        """
        if clients_in_round < self.least_clients:
            raise IncompatibleRecipeError(
                f"strategy {self.name} needs replies of at least {self.least_clients} clients in every round, and a "
                f"round may have {clients_in_round}; let more take part, or choose another strategy or settings",
                setting="federation.strategy",
                given=clients_in_round,
                allowed=self.least_clients,
            )
        if self.needs_losses and recipe.privacy is not None:
            raise IncompatibleRecipeError(
                f"strategy {self.name} weighs clients by their training loss, and private clients do not send it: it "
                "is computed from records without noise; choose another strategy, or drop privacy",
                setting="federation.strategy",
                given=self.name,
            )

    def hooks(self) -> Sequence[RoundHook]:
        """Returns new hooks for one client's local training, in the order in which they run; none by default."""
        return ()

    def scale(self, contribution: Contribution) -> float:
        """Returns the factor by which a client's update enters the sum.

        Args:
            contribution: of the client.

        Returns:
            A number of at least 0; by default the client's records.
        """
        return float(contribution.records)

    def divisor(self, contribution: Contribution) -> float:
        """Returns the number by which a client's update is divided before it is summed.

        Args:
            contribution: of the client.

        Returns:
            A positive number; 1 by default.
        """
        return 1.0

    def scale_limit(self, records: int, recipe: Recipe) -> float:
        """Returns the greatest ``scale`` that a client can have; it fixes the precision of sums before training.

        Args:
            records: of the client.
            recipe: that is trained.

        Returns:
            A positive number; by default the records.
        """
        return float(max(1, records))

    def vector_scale(self, contribution: Contribution) -> float:
        """Returns the factor by which the vectors of a client's hooks enter their sums.

        Args:
            contribution: of the client.

        Returns:
            A number of at least 0; 1 by default.
        """
        return 1.0

    def scalars(self, contribution: Contribution, update: Tensor) -> dict[str, float]:
        """Returns further numbers of a client that the server needs the sums of.

        Args:
            contribution: of the client.
            update: (d,) of the client.

        Returns:
            Numbers by name, the same names for every client; none by default.
        """
        return {}

    def combine_sum(self, sums: Sums, cohort: Cohort) -> Tensor:
        """Returns the change of the weights, for strategies that work on sums.

        Args:
            sums: over the clients of the round.
            cohort: the round.

        Returns:
            (d,) float64; by default the average, weighted by ``scale``.

        Raises:
            FederationError: all weights are 0.
        """
        if not sums.scales > 0:
            raise FederationError(
                f"round {cohort.number}: the weights of all {len(cohort.contributions)} clients are 0, so there is no "
                "average; every client needs at least one record"
            )
        return sums.changes / sums.scales

    def combine(self, updates: Tensor, cohort: Cohort) -> Tensor:
        """Returns the change of the weights, for strategies that see each update.

        Args:
            updates: (m, d) float64, in the order of ``cohort.contributions``; not to be changed in place.
            cohort: the round.

        Returns:
            (d,) float64.

        Raises:
            FederationError: there are fewer updates than ``least_clients``.
        """
        raise NotImplementedError

    def server(self) -> ServerState:
        """Returns the fresh state of the server's optimiser; by default the change is added."""
        return PlainStep()

    def _refuse_few(self, updates: Tensor, cohort: Cohort) -> None:
        """Raises if a round has fewer updates than the strategy needs."""
        if len(updates) < self.least_clients:
            raise FederationError(
                f"round {cohort.number}: strategy {self.name} needs updates of at least {self.least_clients} clients, "
                f"and {len(updates)} are there"
            )
