"""The tasks of the benchmark of federated rounds, each written as one bundle that every engine reads."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay import seeds
from assay.data.base import Dataset
from assay.data.images.medmnist import PneumoniaMNIST
from assay.data.tabular import WisconsinBreastCancer
from assay.seeds import client_seed
from assay.training.update import PlainUpdate
from tests.benchmarks.federated.bundle import NETWORKS

SEED = 0
USERS, RECORDS_OF_A_USER = 94, 50


def cross_device(path: Path, *, rounds: int = 100) -> None:
    """Writes task A, that of pfl's own benchmark at a smaller size: 94 users of 50 X-rays, 50 of them in a round."""
    x, y, tests = _pneumonia()
    parts = np.arange(USERS * RECORDS_OF_A_USER).reshape(USERS, RECORDS_OF_A_USER)
    cohorts = [seeds.stream(SEED, "cohort", number).permutation(USERS)[:50] for number in range(rounds)]
    write(path, x, y, tests, list(parts), cohorts=np.array(cohorts), network="pfl_cnn", batch_size=10,
          learning_rate=0.1, evaluate_every=10)  # fmt: skip


def linear(path: Path, *, rounds: int = 100) -> None:
    """Writes task B, where the work of an engine beside the training rules: logistic regression, 10 clients."""
    dataset = WisconsinBreastCancer().load()
    x, y = np.asarray(dataset.x), dataset.y
    parts = np.array_split(seeds.stream(SEED, "deal").permutation(len(x)), 10)
    write(
        path,
        x,
        y,
        (x[:1], y[:1]),
        parts,
        cohorts=_everybody(10, rounds),
        network="linear",
        batch_size=10,
        learning_rate=0.1,
    )


def images(path: Path, *, rounds: int = 5) -> None:
    """Writes task C, where training rules: all X-rays at 10 clients, batches of 64."""
    x, y, tests = _pneumonia()
    parts = np.array_split(seeds.stream(SEED, "deal").permutation(len(x)), 10)
    write(path, x, y, tests, parts, cohorts=_everybody(10, rounds), network="cnn", batch_size=64, learning_rate=0.05)


def many_clients(path: Path, *, clients: int, cohort: int, rounds: int = 5) -> None:
    """Writes the task of the comparison of memory: the same 50,000 made records, dealt to few clients or to many."""
    draw = seeds.stream(SEED, "made records")
    x = draw.standard_normal((50_000, 30), np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    parts = np.array_split(np.arange(len(x)), clients)
    cohorts = [seeds.stream(SEED, "cohort", number).permutation(clients)[:cohort] for number in range(rounds)]
    write(
        path, x, y, (x[:1], y[:1]), parts, cohorts=np.array(cohorts), network="linear", batch_size=50, learning_rate=0.1
    )


def write(
    path: Path,
    x: np.ndarray,
    y: np.ndarray,
    tests: tuple[np.ndarray, np.ndarray],
    parts: Sequence[np.ndarray],
    *,
    cohorts: np.ndarray,
    network: str,
    batch_size: int,
    learning_rate: float,
    evaluate_every: int = 0,
) -> None:
    """Writes a bundle. Batches are those that Assay's clients draw; all engines are given them as positions.

    Args:
        path: of the file.
        x: (n, ...) training records.
        y: (n,) labels.
        tests: (m, ...) records of the evaluations between rounds, and their (m,) labels.
        parts: positions of each client's records.
        cohorts: (rounds, clients of a round) numbers of clients, from 0.
        network: name in ``bundle.NETWORKS``.
        batch_size: of the local steps; the last batch of an epoch may be smaller.
        learning_rate: of plain SGD.
        evaluate_every: rounds between evaluations; 0 for none.
    """
    test_x, test_y = tests
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        weights = {f"weight/{name}": array.numpy() for name, array in NETWORKS[network]().state_dict().items()}
    settings = {
        "network": network, "batch_size": batch_size, "learning_rate": learning_rate, "evaluate_every": evaluate_every,
        "seed": SEED,
    }  # fmt: skip
    np.savez(
        path, x=x, y=y, test_x=test_x, test_y=test_y, parts=np.concatenate(parts),
        part_ends=np.cumsum([len(part) for part in parts]), cohorts=cohorts,
        orders=np.concatenate(_orders(parts, cohorts, batch_size)), settings=np.array(json.dumps(settings)), **weights,
    )  # fmt: skip


def _orders(parts: Sequence[np.ndarray], cohorts: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Returns the positions that each client of each round visits: those of its next epoch, as Assay draws them."""
    epochs: Counter[int] = Counter()
    orders = []
    for client in cohorts.ravel():
        rows = parts[client]
        drawn = PlainUpdate(
            nn.Identity(), records=len(rows), batch_size=len(rows), seed=client_seed(SEED, int(client) + 1)
        )
        orders.append(rows[drawn.batch(epochs[client])])  # one batch of all records: the order of the epoch
        epochs[client] += 1
    return orders


def _everybody(clients: int, rounds: int) -> np.ndarray:
    return np.tile(np.arange(clients), (rounds, 1))


def _pneumonia() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns training records with labels, and test records with theirs, of the official split."""
    dataset: Dataset = PneumoniaMNIST().load()
    assert dataset.official is not None
    training, test = (np.flatnonzero(dataset.official == part) for part in ("train", "test"))
    x = np.asarray(dataset.x)
    return x[training], dataset.y[training], (x[test], dataset.y[test])
