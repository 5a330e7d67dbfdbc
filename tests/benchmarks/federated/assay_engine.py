"""Assay's federated training of a bundle. ``--workers 0`` runs it in this process, without Ray."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from ray import cloudpickle
from torch import Tensor, nn

import assay.objectives  # noqa: F401
from assay.cluster.executor import RayExecutor, RayHost
from assay.executors import Executor, LocalExecutor
from assay.federated import server
from assay.federated.participation import Participants
from assay.recipes import Federation, Recipe
from assay.threats import Bounds
from tests.benchmarks.federated.bundle import Bundle, arguments, finish


def given_cohort(bundle: Bundle, settings: Federation, *, number: int, **_: Any) -> Participants:
    """Returns the clients of the bundle in a round, in place of drawn ones."""
    return Participants(asked=tuple(sorted(int(client) + 1 for client in bundle.cohorts[number - 1])), absent=())


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
    result = server.train_federated(
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
    """Returns a list to which the requests to the workers, and the replies, add the bytes of their pickles."""
    crossed: list[int] = []
    called = RayHost.call

    def call(self: RayHost, requests: Any, shared: Any, timeout: float) -> dict[int, Any]:
        replies = called(self, requests, shared, timeout)
        sent = (*requests.values(), *[shared] * len(requests), *replies.values())
        crossed.extend(len(cloudpickle.dumps(message)) for message in sent)
        return replies

    RayHost.call = call  # type: ignore[method-assign]
    return crossed


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    crossed = counted_bytes() if asked.count else []
    drawn = mock.patch.object(server, "participants", partial(given_cohort, bundle))
    pool = RayExecutor(workers=asked.workers) if asked.workers else nullcontext(LocalExecutor())
    with drawn, pool as executor:
        train(bundle, executor, rounds=1)  # the workers import what they need
        crossed.clear()
        setup = time.perf_counter() - began
        weights, seconds = train(bundle, executor)
        finish(asked, weights, seconds=seconds, setup=setup, crossed=int(np.sum(crossed)) if asked.count else None)


if __name__ == "__main__":
    main()
