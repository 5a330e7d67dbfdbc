"""Federated trainings on sixty records, and executors that lose, reorder or delay what they are told to."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from assay.data.partition import partition
from assay.executors import LocalExecutor, Service, answer
from assay.federated.server import Federated, train_federated
from assay.recipes import Federation, Privacy, Recipe, Training
from assay.threats import Bounds

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Lead = Callable[..., Federated]

SGD = Training(batch_size=16, optimizer="sgd", learning_rate=0.05, schedule="cosine")
PLAIN_SGD = Training(batch_size=16, optimizer="sgd", momentum=0.0, learning_rate=0.05)
ADAM = Training(batch_size=16, learning_rate=0.01)
PGD = {"name": "pgd", "epsilon": 0.3, "steps": 3}
RECIPES = {
    "standard": Recipe(training=SGD),
    "plain": Recipe(training=PLAIN_SGD),
    "adam": Recipe(training=ADAM),
    "adversarial": Recipe(objective=PGD, training=SGD),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=ADAM),
    "private adversarial": Recipe(objective=PGD, privacy=Privacy(epsilon=8.0), training=SGD),
}


def federated(name: str, **settings: Any) -> Recipe:
    given = {"clients": 3, "rounds": 2, "local_epochs": 2, **settings}
    return RECIPES[name].model_copy(update={"federation": Federation(**given)})


@pytest.fixture
def lead(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Lead:
    """Trains a federated recipe on 60 records: ``lead(recipe, executor=..., parts=...)``."""

    def run(recipe: Recipe, **given: Any) -> Federated:
        x, y = (tensor.numpy() for tensor in blobs(60))
        assert recipe.federation is not None
        settings: dict[str, Any] = {
            "bounds": blob_bounds,
            "classes": 2,
            "seed": 7,
            "threads": 1,
            "executor": LocalExecutor(),
            **given,
        }
        if "parts" not in settings:
            settings["parts"] = list(partition(np.arange(60), y, recipe.federation, seed=7))
        return train_federated(settings.pop("network", network), recipe, settings.pop("x", x), y, **settings)

    return run


class Workers(LocalExecutor):
    """Several services in this process, one after the other, as if each were a worker of its own.

    Args:
        places: number of workers.
        lost: (call, place) whose service dies with all that it did; calls are counted from 1.
        backwards: whether services are called in the opposite order.
    """

    def __init__(self, places: int, *, lost: tuple[tuple[int, int], ...] = (), backwards: bool = False) -> None:
        self.places, self.lost, self.backwards = places, lost, backwards
        self.calls: list[dict[int, Any]] = []
        self.restarted: list[int] = []
        self.closed = False

    def host(self, make: Callable[[], Service]) -> Any:
        executor = self

        class WorkersHost:
            places = executor.places

            def __init__(self) -> None:
                self.services = [make() for _ in range(self.places)]

            def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
                executor.calls.append(dict(requests))
                order = sorted(requests, reverse=executor.backwards)
                replies = {place: answer(self.services[place], requests[place], shared) for place in order}
                for call, place in executor.lost:
                    if call == len(executor.calls) and place in replies:
                        replies[place] = RuntimeError("the process died")
                return replies

            def restart(self, place: int) -> None:
                executor.restarted.append(place)
                self.services[place] = make()

            def close(self) -> None:
                executor.closed = True

        return WorkersHost()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two networks are equal bit for bit."""
    return one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)
