"""Assignment of trainings to actors: the first actor that needs a model trains it, and the others wait for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from assay.results import Finding
from assay.study.training import Trained

Model = tuple[Trained, Mapping[str, tuple[Finding, ...]]]
"""A trained model, and the findings about it by identifier of the answer."""


@dataclass
class _Claim:
    """A training that is assigned to an actor."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watching: Any = None
    """Task that waits for the end of the actor; stored, because asyncio keeps no reference to it."""


class Claims:
    """Assigns the training of each model to one actor at a time; runs as an asynchronous actor of Ray.

    Args:
        models: already trained, by name.
    """

    def __init__(self, models: Mapping[str, "ray.ObjectRef[Model]"]) -> None:
        self._models = dict(models)
        self._claims: dict[str, _Claim] = {}

    async def take(self, training: str, actor: Any) -> list["ray.ObjectRef[Model]"]:
        """Requests a model.

        Args:
            training: its name.
            actor: that requests it. If it dies before the model is trained, the next waiting actor trains it.

        Returns:
            A list with the model; an empty list if the actor must train it and report the outcome (``settle``).
        """
        while training not in self._models:
            claim = self._claims.get(training)
            if claim is None:
                self._claims[training] = claim = _Claim()
                claim.watching = asyncio.create_task(self._watch(training, claim, actor))
                return []
            await claim.ended.wait()
        return [self._models[training]]

    async def settle(self, training: str, model: list["ray.ObjectRef[Model]"]) -> None:
        """Reports the outcome of a training.

        Args:
            training: name of the model.
            model: a list with the model; empty if the training failed.
        """
        if model:
            self._models[training] = model[0]
        claim = self._claims.pop(training, None)
        if claim is not None:
            claim.ended.set()

    async def _watch(self, training: str, claim: _Claim, actor: Any) -> None:
        """Withdraws an assignment when its actor dies."""
        try:
            # Returns when the actor has finished its present call; raises if the actor dies.
            await actor.__ray_ready__.remote()
        except ray.exceptions.RayActorError:
            if self._claims.get(training) is claim:
                await self.settle(training, [])


def start_claims(models: Mapping[str, "ray.ObjectRef[Model]"]) -> Any:
    """Starts the actor that assigns the trainings of a sweep; it ends with the driver.

    Args:
        models: already trained, by name.

    Returns:
        Handle of the actor, see ``Claims``.
    """
    return ray.remote(Claims).options(num_cpus=0, max_concurrency=1000).remote(dict(models))
