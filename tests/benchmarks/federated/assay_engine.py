"""Assay's federated training of a bundle. ``--workers 0`` runs it in this process, without Ray."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from ray import cloudpickle
from torch import Tensor, nn

import assay.objectives  # noqa: F401
from assay.cluster.executor import RayExecutor, RayHost
from assay.executors import Executor, LocalExecutor
from assay.federated import lead
from assay.recipes import Federation, Recipe
from assay.threats import Bounds
from tests.benchmarks.federated.bundle import Bundle, arguments, finish


class GivenCohorts(lead._Recorded):
    """Federated averaging whose rounds have the clients of the bundle."""

    def __init__(self, bundle: Bundle, settings: Federation) -> None:
        super().__init__(fraction_evaluate=0.0, min_available_nodes=settings.clients)
        self._bundle = bundle

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        nodes = [int(client) + 1 for client in sorted(self._bundle.cohorts[server_round - 1])]
        return self._construct_messages(record, nodes, MessageType.TRAIN)


def recipe_of(bundle: Bundle, rounds: int) -> Recipe:
    """Returns the recipe of a bundle: one epoch of plain SGD a round."""
    return Recipe.model_validate(
        {
            "objective": "standard",
            "training": {
                "batch_size": bundle.batch_size,
                "optimizer": "sgd",
                "momentum": 0.0,
                "learning_rate": bundle.learning_rate,
            },
            "federation": {"clients": len(bundle.parts), "rounds": rounds, "local_epochs": 1},
        }
    )


def train(bundle: Bundle, executor: Executor, rounds: int | None = None) -> tuple[dict[str, Tensor], float]:
    """Returns the weights after all rounds, or after the first ``rounds``; and the seconds of the whole training."""
    # The rounds' weights are not handed out yet: an evaluation of other weights takes the same time.
    tested = bundle.network()
    shape = tuple(bundle.x.shape[1:])
    everything = torch.full(shape, torch.inf, dtype=bundle.dtype)
    network: Callable[[], nn.Module] = partial(Bundle.network, bundle)
    x, y = bundle.x.numpy(), bundle.y.numpy()

    def after_round(number: int) -> None:
        if bundle.is_evaluated(number):
            bundle.evaluate(tested)

    started = time.perf_counter()
    if bundle.is_evaluated(0):
        bundle.evaluate(tested)
    result = lead.train_federated(
        network,
        recipe_of(bundle, bundle.rounds if rounds is None else rounds),
        x,
        y,
        bundle.parts,
        bounds=Bounds(low=-everything, high=everything),
        classes=2,
        seed=bundle.seed,
        threads=1,
        executor=executor,
        after_round=after_round,
    )
    return dict(result.weights), time.perf_counter() - started


def counted_bytes() -> list[int]:
    """Returns a list to which the requests to the workers' clients, and the replies, add the bytes of their pickles."""
    crossed: list[int] = []
    called = RayHost.call

    def call(self: RayHost, requests: Any, timeout: float) -> dict[int, Any]:
        replies = called(self, requests, timeout)
        crossed.extend(len(cloudpickle.dumps(message)) for message in (*requests.values(), *replies.values()))
        return replies

    RayHost.call = call  # type: ignore[method-assign]
    return crossed


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    crossed = counted_bytes() if asked.count else []
    drawn = mock.patch.object(lead, "_strategy", partial(GivenCohorts, bundle))
    pool = RayExecutor(workers=asked.workers) if asked.workers else nullcontext(LocalExecutor())
    with drawn, pool as executor:
        train(bundle, executor, rounds=1)  # the workers import what they need
        crossed.clear()
        setup = time.perf_counter() - began
        weights, seconds = train(bundle, executor)
        finish(asked, weights, seconds=seconds, setup=setup, crossed=int(np.sum(crossed)) if asked.count else None)


if __name__ == "__main__":
    main()
