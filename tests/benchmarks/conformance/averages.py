"""Rows on averages: weights, buffers, claimed sizes, losses."""

from typing import Any

import numpy as np
import torch

from assay.federated.buffers import BatchNormMoments
from assay.federated.flat import FlatNetwork
from tests.benchmarks.conformance.rounds import assay_round, strategy
from tests.benchmarks.conformance.row import Row, near, refused
from tests.federated.flower_peer import flower, flower_round, flower_vector
from tests.federated.quadratics import vector


def _average(values: list[float], records: list[int]) -> float:
    return float(assay_round(strategy("fedavg"), vector(0.0), [vector(value) for value in values], records))


def _average_of_flower(values: list[float], examples: list[float]) -> float:
    found = flower_vector(flower("FedAvg", len(values)), [0.0], [[value] for value in values], examples=examples)
    assert found is not None
    return float(found[0])


def _weighted_twice(values: list[float]) -> float:
    """FL4Health's weighted private average: each update times its share, then the sum divided by their number."""
    shares = [1 / len(values)] * len(values)
    return sum(share * value for share, value in zip(shares, values, strict=True)) / len(values)


def _batch_norm() -> FlatNetwork:
    return FlatNetwork(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)))


MANY_BATCHES = 1000
"""After so many, nothing is left of the statistics that a client was sent."""


def _pooled_variance() -> float:
    moments, sent = BatchNormMoments(_batch_norm().network), _batch_norm().buffers()
    replies = [
        moments.vector(
            sent,
            {
                **sent,
                "1.running_mean": torch.tensor([mean]),
                "1.running_var": torch.zeros(1),
                "1.num_batches_tracked": torch.tensor(MANY_BATCHES),
            },
        )
        for mean in (-1.0, 1.0)
    ]
    return float(moments.joined(torch.stack(replies).mean(0), [1], sent)["1.running_var"])


def _pooled_variance_of_flower() -> float:
    replies = [{"mean": np.array([mean]), "var": np.array([0.0])} for mean in (-1.0, 1.0)]
    found = flower_round(flower("FedAvg", 2), {"mean": np.zeros(1), "var": np.ones(1)}, replies)
    assert found is not None
    return float(found["var"][0])


def _counter() -> Any:
    moments, sent = BatchNormMoments(_batch_norm().network), _batch_norm().buffers()
    after = {**sent, "1.num_batches_tracked": torch.tensor(4)}
    joined = moments.joined(moments.vector(sent, after), [max(3, 4, 4)], sent)["1.num_batches_tracked"]
    return f"{joined.item()} ({str(joined.dtype).removeprefix('torch.')})"


def _counter_of_flower() -> Any:
    replies = [{"n": np.array(count)} for count in (3, 4, 4)]
    found = flower_round(flower("FedAvg", 3), {"n": np.array(0)}, replies)
    assert found is not None
    return f"{found['n'].item():.4g} ({found['n'].dtype})"


def _fair() -> str:
    flat = _batch_norm()
    updates = [torch.full((len(flat.vector),), value, dtype=torch.float64) for value in (0.1, 0.2)]
    found = assay_round(strategy("qfedavg"), flat.vector.double(), updates, [5, 5], losses=[0.5, 1.0])
    return "finite weights" if bool(found.isfinite().all()) else "not finite"


def _fair_of_flower() -> str:
    weights = {"w": np.zeros(2, np.float32), "n": np.array(0)}
    replies = [{"w": np.full(2, value, np.float32), "n": np.array(5)} for value in (0.1, 0.2)]
    made = flower("QFedAvg", 2, client_learning_rate=0.1)
    found = flower_round(made, weights, replies, losses=[0.5, 1.0])
    return "finite weights" if found is not None and np.isfinite(found["w"]).all() else "not finite"


_HONEST = [1.0, 1.0, 1.0, 1.0, -5.0]

ROWS = (
    Row(
        fault=8,
        name="pooled_variance",
        input="batch norm, constant features -1 and +1 at two equal clients",
        right="variance 1",
        accepts=near(1.0),
        assay=_pooled_variance,
        flower=_pooled_variance_of_flower,
    ),
    Row(
        fault=8,
        name="counter",
        input="num_batches_tracked 3, 4, 4 in int64",
        right="a whole number, int64",
        accepts=lambda given: given == "4 (int64)",
        assay=_counter,
        flower=_counter_of_flower,
    ),
    Row(
        fault=9,
        name="weights",
        input="10 and 1000 records, updates 0 and 1",
        right="0.990",
        accepts=near(1000 / 1010, 1e-6),  # pfl works in float32
        assay=lambda: _average([0.0, 1.0], [10, 1000]),
        flower=lambda: _average_of_flower([0.0, 1.0], [10, 1000]),
        pfl_has_it=True,
    ),
    *(
        Row(
            fault=9,
            name=f"agreement_of_{clients}",
            input=f"{clients} equal clients who all say 1; weighted private average without noise",
            right="1",
            accepts=near(1.0),
            assay=lambda clients=clients: _average([1.0] * clients, [7] * clients),
            flower=lambda clients=clients: _average_of_flower([1.0] * clients, [7] * clients),
            fl4health=lambda clients=clients: _weighted_twice([1.0] * clients),
        )
        for clients in (2, 10)
    ),
    Row(
        fault=9,
        name="no_records",
        input="two clients with 0 records each",
        right="an error with a message",
        accepts=refused,
        assay=lambda: _average([0.0, 1.0], [0, 0]),
        flower=lambda: _average_of_flower([0.0, 1.0], [0, 0]),
    ),
    Row(
        fault=19,
        name="stuffed_weight",
        input="four clients at 1 and a liar at -5, 10 records each by the server's count; it claims 1e9",
        right="-0.2: its own size counts",
        accepts=near(-0.2),
        assay=lambda: _average(_HONEST, [10] * 5),
        flower=lambda: _average_of_flower(_HONEST, [10, 10, 10, 10, 1_000_000_000]),
    ),
    Row(
        fault=19,
        name="negative_weight",
        input="four clients at 1 and a liar at -5 with 100 records each; it claims -300",
        right="-0.2",
        accepts=near(-0.2),
        assay=lambda: _average(_HONEST, [100] * 5),
        flower=lambda: _average_of_flower(_HONEST, [100, 100, 100, 100, -300]),
    ),
    Row(
        fault=23,
        name="qfedavg_with_batch_norm",
        input="q-FedAvg of a network with batch norm, whose counter is int64",
        right="finite weights",
        accepts=lambda given: given == "finite weights",
        assay=_fair,
        flower=_fair_of_flower,
    ),
)
