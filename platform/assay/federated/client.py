"""A federated client: one trainer with records that never leave it, addressed by Flower's messages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from assay.recipes import Recipe
from assay.seeds import client_seed
from assay.tasks.base import Task
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.proximal_term import ProximalTerm


@dataclass(frozen=True, kw_only=True)
class ClientPlan:
    """Everything that a worker needs to create a client, including its records. It is sent once."""

    number: int
    """From 1; also Flower's node ID."""
    network: Callable[[], nn.Module]
    recipe: Recipe
    x: np.ndarray
    y: np.ndarray
    bounds: Bounds
    classes: int
    task: Task
    seed: int
    threads: int
    patients: np.ndarray | None = None
    """(n,) ID of each record's patient, None where records have none."""
    stage: str = ""
    teacher: Mapping[str, Tensor] | None = None
    """Weights of the network that the stage before trained."""

    def make(self) -> "FederatedClient":
        """Returns a new client."""
        return FederatedClient(self)


class FederatedClient:
    """Answers Flower's train messages with the one training loop.

    The optimizer, the step count (on which random numbers depend) and the privacy account persist between rounds. So a
    single client does, bit for bit, what central training does.

    Args:
        plan: records, recipe and seed of the client.
    """

    def __init__(self, plan: ClientPlan) -> None:
        federation = plan.recipe.federation
        assert federation is not None
        torch.set_num_threads(plan.threads)
        self._plan = plan
        self._local_epochs = federation.local_epochs
        teacher = None
        if plan.teacher is not None:
            teacher = plan.network()
            teacher.load_state_dict(dict(plan.teacher))
        self._proximal_term = ProximalTerm()
        self._trainer = build_trainer(
            plan.network(),
            plan.recipe,
            torch.from_numpy(np.array(plan.x)),
            torch.from_numpy(np.array(plan.y)),
            bounds=plan.bounds,
            seed=client_seed(plan.seed, plan.number),
            stage=plan.stage,
            classes=plan.classes,
            task=plan.task,
            teacher=teacher,
            epochs=plan.recipe.passes,
            patients=plan.patients,
            hooks=[self._proximal_term],
        )
        self._context = Context(run_id=0, node_id=plan.number, node_config={}, state=RecordDict(), run_config={})
        self._app = ClientApp()
        self._app.train()(self._train)

    def __call__(self, request: Message) -> Message:
        return self._app(request, self._context)

    def _train(self, message: Message, context: Context) -> Message:
        arrays: ArrayRecord = message.content["arrays"]
        self._trainer.receive(arrays.to_torch_state_dict())
        strength = float(message.content["config"].get("proximal-mu", 0.0))
        self._proximal_term.anchor(self._trainer.parameters, strength=strength)
        self._trainer.run(self._local_epochs)
        mechanism = self._trainer.mechanism
        if mechanism is not None:
            # The mechanism of all rounds so far: the privacy account belongs to the client, not to the round.
            context.state["privacy"] = ConfigRecord(
                {
                    "noise-multiplier": mechanism.noise_multiplier,
                    "sample-rate": mechanism.sample_rate,
                    "steps": mechanism.steps,
                    "delta": mechanism.delta,
                    "unit": mechanism.unit,
                }
            )
        # The loss is computed from the client's records without noise, so a private client does not report it.
        loss = {"train-loss": self._trainer.losses[-1]} if mechanism is None else {}
        report = RecordDict(
            {
                "arrays": ArrayRecord(self._trainer.model.state_dict()),
                "metrics": MetricRecord(
                    {
                        # The weight in the average: for a private client, the number of protected units.
                        "num-examples": self._trainer.units,
                        **loss,
                        "train-seconds": self._trainer.seconds,
                        **{f"treated-{name}": count for name, count in self._trainer.treatment.items()},
                    }
                ),
            }
        )
        if self._trainer.notes:
            report["notes"] = ConfigRecord({"said": self._trainer.notes})
        if mechanism is not None:
            report["privacy"] = context.state["privacy"]
        return Message(report, reply_to=message)
