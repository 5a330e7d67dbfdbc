"""A task as one file: records, the clients of each round, their batches as positions, and initial weights.

Imports NumPy and PyTorch alone: it is read in the environment of Assay and in that of the peers.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pfl_cnn() -> nn.Module:
    """Returns the CNN of pfl's own benchmark for images of 28 × 28, without dropout: engines would draw it apart."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Linear(128, 2),
    )


def linear() -> nn.Module:
    """Returns logistic regression on 30 features."""
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 2))


def cnn() -> nn.Module:
    """Returns the layers of Assay's ``cnn`` for images of 28 × 28."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 14 * 14, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"pfl_cnn": pfl_cnn, "linear": linear, "cnn": cnn}


class Bundle:
    """A task that ``tasks.write`` has stored.

    Args:
        path: of the file.
        dtype: of records and weights, ``float32`` or ``float64``.
    """

    def __init__(self, path: str, dtype: str = "float32") -> None:
        with np.load(path) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        settings: dict[str, Any] = json.loads(str(self._arrays["settings"]))
        self.dtype = getattr(torch, dtype)
        self.network_name: str = settings["network"]
        self.batch_size: int = settings["batch_size"]
        self.learning_rate: float = settings["learning_rate"]
        self.evaluate_every: int = settings["evaluate_every"]
        """Rounds between evaluations on the test records; 0 for none."""
        self.seed: int = settings["seed"]
        self.x = torch.from_numpy(self._arrays["x"]).to(self.dtype)
        self.y = torch.from_numpy(self._arrays["y"])
        self.test_x = torch.from_numpy(self._arrays["test_x"]).to(self.dtype)
        self.test_y = torch.from_numpy(self._arrays["test_y"])
        self.cohorts: np.ndarray = self._arrays["cohorts"]
        """(rounds, clients of a round) numbers of clients, from 0."""
        self.rounds, self.cohort = self.cohorts.shape
        self.parts: list[np.ndarray] = np.split(self._arrays["parts"], self._arrays["part_ends"][:-1])
        """Positions of each client's records."""
        self._orders = self._arrays["orders"]
        self._starts = np.concatenate([[0], np.cumsum([len(self.parts[client]) for client in self.cohorts.ravel()])])

    def network(self) -> nn.Module:
        """Returns the network with its initial weights."""
        network = NETWORKS[self.network_name]().to(self.dtype)
        weights = {
            name.removeprefix("weight/"): torch.from_numpy(array).to(self.dtype)
            for name, array in self._arrays.items()
            if name.startswith("weight/")
        }
        network.load_state_dict(weights)
        return network

    def batches(self, number: int, place: int) -> list[Tensor]:
        """Returns the batches of one client in one round.

        Args:
            number: of the round, from 0.
            place: of the client in the round's cohort.

        Returns:
            Positions among all records, one tensor a step.
        """
        index = number * self.cohort + place
        order = torch.from_numpy(self._orders[self._starts[index] : self._starts[index + 1]])
        return list(order.split(self.batch_size))

    def is_evaluated(self, number: int) -> bool:
        """Returns whether the weights after so many rounds are evaluated; 0 is before the first."""
        return bool(self.evaluate_every) and number % self.evaluate_every == 0

    @torch.no_grad()
    def evaluate(self, network: nn.Module) -> float:
        """Returns the accuracy on the test records, in one batch."""
        return float((network(self.test_x).argmax(1) == self.test_y).double().mean())


def loss_of(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns the mean cross-entropy of a batch, the loss of all engines."""
    return F.cross_entropy(network(x), y)


def arguments() -> argparse.Namespace:
    """Returns the arguments of an engine's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--weights")
    parser.add_argument("--count", action="store_true")
    return parser.parse_args()


def finish(
    asked: argparse.Namespace,
    weights: dict[str, Tensor],
    *,
    seconds: float,
    setup: float,
    crossed: int | None = None,
) -> None:
    """Stores the final weights where that is asked for, and prints the figures of an engine.

    Args:
        asked: the command line.
        weights: after the last round.
        seconds: of all rounds.
        setup: seconds before the first round, imports left out.
        crossed: bytes that crossed processes, None where they were not counted.
    """
    if asked.weights:
        np.savez(Path(asked.weights), **{name: tensor.detach().numpy() for name, tensor in weights.items()})
    print(json.dumps({"seconds": seconds, "setup_seconds": setup, "bytes": crossed}), flush=True)
