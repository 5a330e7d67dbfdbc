"""Who trains which model: of several actors that want the same one, the first trains it and the others wait for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from assay.results import Finding
from assay.study.training import Trained

Model = tuple[Trained, Mapping[str, tuple[Finding, ...]]]
"""A trained model, and what was found of it by the names of the answers."""


@dataclass
class _Claim:
    """One model that an actor trains."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watching: Any = None
    """Waits for the death of the actor; kept, or asyncio would forget it."""


class Claims:
    """Lends the training of each model to one actor at a time; runs as an asynchronous actor of Ray.

    Args:
        models: that were trained before, by name.
    """

    def __init__(self, models: Mapping[str, "ray.ObjectRef[Model]"]) -> None:
        self._models = dict(models)
        self._claims: dict[str, _Claim] = {}

    async def take(self, training: str, actor: Any) -> list["ray.ObjectRef[Model]"]:
        """Ask for a model.

        Args:
            training: its name.
            actor: who asks. If it dies before the model is there, the next who waits trains it.

        Returns:
            The model; or nothing, and then the actor must train it and say how that ended (``settle``).
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
        """Say how a training ended: with a model, or, if the list is empty, without."""
        if model:
            self._models[training] = model[0]
        claim = self._claims.pop(training, None)
        if claim is not None:
            claim.ended.set()

    async def _watch(self, training: str, claim: _Claim, actor: Any) -> None:
        """Give the claim back when its actor dies."""
        try:
            # Answered once the actor has finished what it does; raises at its death.
            await actor.__ray_ready__.remote()
        except ray.exceptions.RayActorError:
            if self._claims.get(training) is claim:
                await self.settle(training, [])


def start_claims(models: Mapping[str, "ray.ObjectRef[Model]"]) -> Any:
    """The actor of a sweep that lends trainings; it ends with the driver.

    Args:
        models: see ``Claims``.
    """
    return ray.remote(Claims).options(num_cpus=0, max_concurrency=1000).remote(dict(models))
