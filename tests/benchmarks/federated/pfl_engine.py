"""pfl's federated averaging of a bundle, in the environment of the peers; with two workers under ``torchrun``.

pfl takes differences of weights, and sums them over workers, in float32 whatever the network's type. So that its
weights can be compared in float64, the buffers of the differences are made in that type beforehand, and the vector that
is summed over workers keeps it; the timed runs, in float32, leave both as they are.
"""

import os
import sys
import time
import types
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from tests.benchmarks.federated.bundle import Bundle, arguments, finish, loss_of


class User(Dataset):
    """Records of one client in one round, in the batches of the bundle."""

    def __init__(self, bundle: Bundle, index: int) -> None:
        number, place = divmod(index, bundle.cohort)
        self._bundle, self._places = bundle, bundle.batches(number, place)
        super().__init__((), user_id=str(bundle.cohorts[number, place]))

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._places)

    def iter(self, batch_size: int | None) -> Iterator[list[Tensor]]:
        for rows in self._places:
            yield [self._bundle.x[rows], self._bundle.y[rows]]


def pfl_model(bundle: Bundle) -> PyTorchModel:
    """Returns the network of the bundle as pfl wants it: with plain SGD at users, and their mean change taken whole."""
    network = bundle.network()

    def metrics(self: nn.Module, x: Tensor, y: Tensor, eval: bool = True) -> dict[str, Weighted]:
        with torch.no_grad():
            return {"accuracy": Weighted(int((self(x).argmax(1) == y).sum()), len(y))}

    network.loss = types.MethodType(loss_of, network)
    network.metrics = types.MethodType(metrics, network)
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    if bundle.dtype == torch.float64:
        for name, parameter in network.named_parameters():
            model._model_diff[name] = torch.empty_like(parameter)
    return model


def train(bundle: Bundle, rounds: int | None = None) -> tuple[dict[str, Tensor], float]:
    """Returns the weights after all rounds, or after the first ``rounds``; and the seconds of the rounds."""
    rounds = bundle.rounds if rounds is None else rounds
    model = pfl_model(bundle)
    indices = count()
    users = FederatedDataset(lambda index: User(bundle, index), lambda: next(indices))
    algorithm = FederatedAveraging()
    # From 1, as pfl would evaluate all users of round 0.
    algorithm._current_central_iteration = 1
    callbacks = []
    if bundle.evaluate_every:
        tests = Dataset((bundle.test_x, bundle.test_y))
        callbacks.append(CentralEvaluationCallback(tests, frequency=bundle.evaluate_every))
    sizes = {len(bundle.parts[client]) for client in bundle.cohorts.ravel()}
    backend = SimulatedBackend(users, users, postprocessors=[WeightByDatapoints()] if len(sizes) > 1 else [])
    parameters = NNAlgorithmParams(
        central_num_iterations=rounds + 1,
        evaluation_frequency=rounds + 2,
        train_cohort_size=bundle.cohort,
        val_cohort_size=0,
    )
    local = NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=bundle.learning_rate, local_batch_size=bundle.batch_size
    )
    started = time.perf_counter()
    algorithm.run(
        parameters, backend, model, local, NNEvalHyperParams(local_batch_size=None), callbacks,
        send_metrics_to_platform=False,
    )  # fmt: skip
    return model.pytorch_model.state_dict(), time.perf_counter() - started


def sum_in_float64() -> None:
    """Makes pfl sum over workers in float64."""

    def flatten(tensors: list[Tensor]) -> tuple[Tensor, list[Any], list[torch.dtype]]:
        vector = torch.cat([tensor.reshape(-1).double() for tensor in tensors])
        return vector, [tuple(tensor.shape) for tensor in tensors], [tensor.dtype for tensor in tensors]

    pytorch_ops.flatten = flatten


def counted_bytes() -> list[int]:
    """Returns a list to which every vector that this worker gives to a sum over workers adds its bytes."""
    crossed: list[int] = []
    summed = torch.distributed.all_reduce

    def all_reduce(tensor: Tensor, *given: Any, **named: Any) -> Any:
        crossed.append(tensor.numel() * tensor.element_size())
        return summed(tensor, *given, **named)

    torch.distributed.all_reduce = all_reduce
    return crossed


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    np.random.seed(0)  # pfl seeds itself from it, and all workers must do so alike
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    if bundle.dtype == torch.float64:
        sum_in_float64()
    train(bundle, rounds=1)
    setup = time.perf_counter() - began
    crossed = counted_bytes() if asked.count else []
    weights, seconds = train(bundle)
    workers = pytorch_ops.distributed.world_size
    if pytorch_ops.distributed.global_rank == 0:
        total = sum(crossed) * workers if asked.count else None
        finish(asked, weights, seconds=seconds, setup=setup, crossed=total)
    if workers > 1:
        # Threads of gloo, of which pfl waits for none, would abort the program at its end.
        torch.distributed.barrier()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
