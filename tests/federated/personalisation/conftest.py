"""Small federations of clients whose records differ, run on one worker or on two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.executors import LocalExecutor, LocalHost, Service, answer
from assay.federated.server import Federated, train_federated
from assay.recipes import Federation, Privacy, Recipe, Training
from assay.seeds import client_seed
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer

PARTS = [np.arange(0, 30), np.arange(30, 50), np.arange(50, 80)]
SGD = Training(batch_size=8, optimizer="sgd", learning_rate=0.05, momentum=0.5)
ADAM = Training(batch_size=8, learning_rate=0.01)
State = Mapping[str, Tensor]


class TwoHosts:
    """Two services, each in this process with a network of its own; the second is asked first."""

    places = 2

    def __init__(self, make: Callable[[], Service]) -> None:
        self._make = make
        self._services = [make(), make()]

    def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
        return {place: answer(self._services[place], request, shared) for place, request in reversed(requests.items())}

    def restart(self, place: int) -> None:
        self._services[place] = self._make()

    def close(self) -> None:
        self._services = []


class TwoWorkers(LocalExecutor):
    workers = 2

    def host(self, make: Callable[[], Service]) -> Any:
        return TwoHosts(make)


class NewWorkers(LocalExecutor):
    """Replaces its worker before every round: nothing that a client needs may live there."""

    def host(self, make: Callable[[], Service]) -> LocalHost:
        class Restarted(LocalHost):
            def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
                self.restart(0)
                return super().call(requests, shared, timeout)

        return Restarted(make)


def normalised(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network with batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).to(dtype)


@dataclass
class Case:
    """A federation of three clients on 80 records."""

    network: Callable[[], nn.Module]
    bounds: Bounds
    x: np.ndarray
    y: np.ndarray
    parts: Sequence[np.ndarray] = field(default_factory=lambda: PARTS)

    def recipe(
        self, personalisation: Any, *, training: Training = SGD, privacy: Privacy | None = None, **settings: Any
    ) -> Recipe:
        federation = {"clients": len(self.parts), "rounds": 3, "local_epochs": 2, "personalisation": personalisation}
        return Recipe(federation=Federation(**{**federation, **settings}), training=training, privacy=privacy)

    def run(self, recipe: Recipe, **given: Any) -> Federated:
        settings: dict[str, Any] = {"executor": LocalExecutor(), "x": self.x, "y": self.y, "parts": self.parts}
        settings |= given
        return train_federated(
            settings.pop("network", self.network),
            recipe,
            settings.pop("x"),
            settings.pop("y"),
            settings.pop("parts"),
            bounds=self.bounds,
            classes=2,
            seed=7,
            threads=1,
            **settings,
        )

    def trainer(self, network: nn.Module, recipe: Recipe, client: int, *, epochs: int, stage: str = "") -> Trainer:
        """The trainer of one client, without a federation."""
        rows = self.parts[client - 1]
        x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
        seed = client_seed(7, client)
        return build_trainer(
            network, recipe, x, y, bounds=self.bounds, seed=seed, stage=stage, epochs=epochs, classes=2
        )


@pytest.fixture
def case(blobs: Callable[..., tuple[Tensor, Tensor]], network: Callable[..., nn.Module], blob_bounds: Bounds) -> Case:
    """Clients whose labels mean different things, so that one model cannot fit all."""
    x, y = (tensor.numpy().copy() for tensor in blobs(80))
    y[50:] = 1 - y[50:]
    return Case(network, blob_bounds, x, y)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: State, other: State, *, atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)
