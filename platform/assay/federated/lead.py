"""Federated training: Flower's own strategy, round by round, over an executor's workers."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, FedProx
from torch import Tensor, nn

from assay.data.base import Lazy
from assay.executors import Executor
from assay.federated.client import ClientPlan
from assay.federated.grid import ExecutorGrid
from assay.privacy.accounting import Mechanism
from assay.recipes import Federation, Recipe
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds

# Flower logs every round, and warns that evaluation on clients is off; Assay reports its own progress.
logging.getLogger("flwr").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True)
class Federated:
    """Result of a federated training."""

    weights: Mapping[str, Tensor]
    seconds: float
    """Wall time of all rounds, including the creation of clients."""
    losses: list[float]
    """Mean training loss of each round, weighted by records; NaN where training is private."""
    client_seconds: float
    """Training time in seconds, summed over clients: what one worker would need."""
    mechanisms: Mapping[int, Mechanism]
    """Mechanism of each client, for the privacy accountants; empty if training is not private."""
    treatment: Mapping[str, int]
    """Counts of the recipe's treatments, summed over clients; empty if there are none."""
    notes: list[str]
    """Notes of the clients on their trainings, each with the client's number."""


def train_federated(
    network: Callable[[], nn.Module],
    recipe: Recipe,
    x: np.ndarray | Lazy,
    y: np.ndarray,
    parts: list[np.ndarray],
    *,
    bounds: Bounds,
    classes: int,
    seed: int,
    threads: int,
    executor: Executor,
    patients: np.ndarray | None = None,
    stage: str = "",
    teacher: nn.Module | None = None,
    after_round: Callable[[int], None] | None = None,
    task: Task = CLASSIFICATION,
) -> Federated:
    """Trains one model over clients that keep their records.

    Args:
        network: creates the initial network, the same for all clients.
        recipe: with ``federation``.
        x: (n, ...) records; each client receives its own rows and no others.
        y: (n,) labels.
        parts: positions of each client's records.
        bounds: valid inputs.
        classes: number of classes.
        seed: of the training; each client derives its own.
        threads: of each client's computation.
        executor: hosts the clients.
        patients: (n,) ID of each record's patient, None where records have none; see ``training.build.build_trainer``.
        stage: name of a stage before the last; see ``training.build.build_trainer``.
        teacher: the network that the stage before trained.
        after_round: called with the number of each finished round.
        task: what labels are, and the loss of a record.

    Returns:
        The weights of the last round, with times, losses and mechanisms.

    Raises:
        FederationError: a client failed or a round exceeded its deadline.
        ValueError: the number of parts is not the recipe's number of clients.
    """
    settings = recipe.federation
    assert settings is not None
    if len(parts) != settings.clients:
        raise ValueError(f"records are dealt to {len(parts)} clients, the recipe has {settings.clients}")
    started = time.perf_counter()
    plans = {
        number: ClientPlan(
            number=number,
            network=network,
            recipe=recipe,
            x=x[rows],
            y=y[rows],
            patients=None if patients is None else patients[rows],
            bounds=bounds,
            classes=classes,
            task=task,
            seed=seed,
            threads=threads,
            stage=stage,
            teacher=None if teacher is None else teacher.state_dict(),
        )
        for number, rows in enumerate(parts, start=1)
    }
    host = executor.host({number: plan.make for number, plan in plans.items()})
    try:
        strategy = _strategy(settings)
        result = strategy.start(
            ExecutorGrid(host, list(plans)),
            ArrayRecord(network().state_dict()),
            num_rounds=settings.rounds,
            timeout=settings.deadline_seconds,
            evaluate_fn=lambda done, _: after_round(done) if after_round and done else None,
        )
    finally:
        host.close()
    rounds = result.train_metrics_clientapp
    return Federated(
        weights=result.arrays.to_torch_state_dict(),
        seconds=time.perf_counter() - started,
        losses=[float(rounds[number].get("train-loss", math.nan)) for number in sorted(rounds)],
        client_seconds=strategy.client_seconds,
        mechanisms=strategy.mechanisms,
        treatment=strategy.treatment,
        notes=[f"client {number}: {note}" for number, notes in sorted(strategy.notes.items()) for note in notes],
    )


def _strategy(settings: Federation) -> "_Recorded":
    """Returns Flower's strategy with all clients in every round."""
    everyone: dict[str, Any] = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": settings.clients,
        "min_evaluate_nodes": 0,
        "min_available_nodes": settings.clients,
    }
    if settings.strategy == "fedprox":
        return _RecordedFedProx(**everyone, proximal_mu=settings.proximal_mu)
    return _Recorded(**everyone)


class _Recorded(FedAvg):
    """Federated averaging that also collects the clients' reports."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.client_seconds = 0.0
        self.mechanisms: dict[int, Mechanism] = {}
        self.treatment: dict[str, int] = {}
        self.notes: dict[int, list[str]] = {}

    def aggregate_train(
        self, server_round: int, replies: list[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        reports = [reply.content["metrics"] for reply in replies]
        self.client_seconds = sum(float(report["train-seconds"]) for report in reports)
        for key in [key for key in reports[0] if key.startswith("treated-")]:
            self.treatment[key.removeprefix("treated-")] = sum(int(report[key]) for report in reports)
        for reply in replies:
            if (noted := reply.content.get("notes")) is not None:
                self.notes[reply.metadata.src_node_id] = list(noted["said"])
            if (account := reply.content.get("privacy")) is not None:
                self.mechanisms[reply.metadata.src_node_id] = Mechanism(
                    noise_multiplier=float(account["noise-multiplier"]),
                    sample_rate=float(account["sample-rate"]),
                    steps=int(account["steps"]),
                    delta=float(account["delta"]),
                    unit="patient" if account["unit"] == "patient" else "record",
                )
        return super().aggregate_train(server_round, replies)


class _RecordedFedProx(_Recorded, FedProx):
    """FedProx that also collects the clients' reports; clients are pulled towards the weights they received."""
