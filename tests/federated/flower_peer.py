"""Flower's own strategies, run in this process on given weights: the peer of tests and of the conformance table."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies
from flwr.supercore.task_identity import TaskIdentity

Arrays = Mapping[str, np.ndarray]


def flower(name: str, clients: int, **settings: Any) -> Any:
    """One of Flower's strategies, with all clients in every round."""
    everyone = {"min_train_nodes": clients, "min_available_nodes": clients, "fraction_evaluate": 0.0}
    return getattr(strategies, name)(**everyone, **settings)


def flower_round(
    strategy: Any,
    weights: Arrays,
    replies: Sequence[Arrays],
    *,
    examples: Sequence[float] | None = None,
    losses: Sequence[float] | None = None,
    number: int = 1,
) -> dict[str, np.ndarray] | None:
    """New weights after one round of a strategy of Flower's; None where it gives none."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 0, 0
    nodes = SimpleNamespace(get_node_ids=lambda: range(len(replies)))
    with mock.patch("gc.collect"):  # Flower collects garbage after each array: half a second among many tests.
        strategy.configure_train(number, _record(weights), ConfigRecord(), nodes)
        arrays, _ = strategy.aggregate_train(number, _messages(replies, examples, losses))
    return None if arrays is None else {key: array.numpy() for key, array in arrays.items()}


def flower_vector(strategy: Any, weights: Any, updates: Any, **given: Any) -> np.ndarray | None:
    """The same for one vector of weights, and updates (m, d) in place of replies."""
    start = np.asarray(weights, dtype=np.float64)
    replies = [{"w": start + np.asarray(update)} for update in np.asarray(updates, dtype=np.float64)]
    found = flower_round(strategy, {"w": start}, replies, **given)
    return None if found is None else found["w"]


def _messages(
    replies: Sequence[Arrays], examples: Sequence[float] | None, losses: Sequence[float] | None
) -> list[Message]:
    return [
        Message(
            RecordDict(
                {
                    "arrays": _record(reply),
                    "metrics": MetricRecord(
                        {
                            "num-examples": 1 if examples is None else examples[place],
                            "train_loss": 1.0 if losses is None else losses[place],
                        }
                    ),
                }
            ),
            dst_node_id=place,
            message_type="train",
        )
        for place, reply in enumerate(replies)
    ]


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({key: Array(np.asarray(value)) for key, value in arrays.items()})
