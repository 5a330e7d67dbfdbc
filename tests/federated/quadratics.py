"""A federation of clients whose losses are known functions: local SGD with a strategy's hooks, in float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from assay.federated.strategies.base import Cohort, Contribution, ServerState, Strategy
from assay.training.hooks.round_hook import RoundHook
from tests.federated.plain_sums import next_weights

Gradient = Callable[[Tensor], Tensor]


def cohort(
    records: Sequence[int],
    *,
    number: int = 1,
    clients: int | None = None,
    everybody: int | None = None,
    steps: int | Sequence[int] = 1,
    rates: float | Sequence[float] = 0.1,
    losses: Sequence[float] | None = None,
) -> Cohort:
    """A round of clients 1, 2, … with these records; ``rates`` is the learning rate of each client's steps."""
    taken = [steps] * len(records) if isinstance(steps, int) else list(steps)
    rate = [rates] * len(records) if isinstance(rates, float) else list(rates)
    return Cohort(
        number=number,
        clients=clients or len(records),
        records=everybody or sum(records),
        contributions=[
            Contribution(
                client=place + 1,
                records=held,
                steps=taken[place],
                learning_rate_sum=taken[place] * rate[place],
                loss=None if losses is None else losses[place],
            )
            for place, held in enumerate(records)
        ],
    )


@dataclass(kw_only=True)
class Federation:
    """Clients with gradients, and the weights of the server."""

    strategy: Strategy
    gradients: Sequence[Gradient]
    weights: Tensor
    steps: Sequence[int]
    rate: Callable[[int], float] = lambda step: 0.1
    momentum: float = 0.0
    records: Sequence[int] = ()
    hooks: list[Sequence[RoundHook]] = field(init=False)
    server: ServerState = field(init=False)
    rounds: int = 0

    def __post_init__(self) -> None:
        self.hooks = [self.strategy.hooks() for _ in self.gradients]
        self.server = self.strategy.server()
        self.records = self.records or [1] * len(self.gradients)

    def round(self, drawn: Sequence[int] | None = None) -> None:
        """Trains the drawn clients (by place) and takes the server's step."""
        places = range(len(self.gradients)) if drawn is None else sorted(drawn)
        trained = [self._local(place) for place in places]
        self.rounds += 1
        taken = Cohort(
            number=self.rounds,
            clients=len(self.gradients),
            records=sum(self.records),
            contributions=[
                Contribution(
                    client=place + 1,
                    records=self.records[place],
                    steps=self.steps[place],
                    learning_rate_sum=sum(map(self.rate, range(self.steps[place]))),
                )
                for place in places
            ],
        )
        updates = torch.stack([update for update, _ in trained])
        vectors = [vectors for _, vectors in trained]
        self.weights = next_weights(self.strategy, self.server, self.weights, updates, taken, vectors=vectors)

    def _local(self, place: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        weights, velocity = self.weights.clone(), torch.zeros_like(self.weights)
        for hook in self.hooks[place]:
            hook.start_round([self.weights], self.server.sent())
        for step in range(self.steps[place]):
            gradients = [self.gradients[place](weights)]
            for hook in self.hooks[place]:
                gradients = hook.gradients(step, [weights], gradients)
            velocity = self.momentum * velocity + gradients[0]
            weights = weights - self.rate(step) * velocity
            trainer = SimpleNamespace(optimizer=SimpleNamespace(param_groups=[{"lr": self.rate(step)}]))
            for hook in self.hooks[place]:
                hook.after_step(trainer)  # type: ignore[arg-type]
        vectors: dict[str, Tensor] = {}
        for hook in self.hooks[place]:
            vectors |= hook.end_round()
        return weights - self.weights, vectors


def vector(*values: float) -> Tensor:
    """These numbers in float64."""
    return torch.tensor(values, dtype=torch.float64)
