"""One loaded version of a model, with what it needs to answer."""

import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.report.card import Card, card_of
from assay.study.finished import Finished
from serve.answers.held_out import HeldOut, calibrate
from serve.batching import Batcher
from serve.model import ServedModel

BATCH = 256
"""Greatest number of records in one batch of predictions."""
EXPLAINED = 32
"""Greatest number of records in one batch of explanations or certificates."""
_AT_ONCE = 1e-3
"""Seconds below which a prediction runs in the event loop: a thread is not reached much faster."""


@dataclass(frozen=True, kw_only=True)
class Online:
    """One loaded version of a model. Calls of several clients share batches."""

    name: str
    version: str
    artefact: str
    """Hash of its weights."""
    model: ServedModel
    card: Card
    held_out: HeldOut
    waiting: int = 64 * BATCH
    """Greatest number of records that wait: those of as many calls as a replica takes at once. How long bodies may be
    bounds their memory."""

    @property
    def origin(self) -> dict[str, str]:
        """Which model answers: part of every answer."""
        return {"model_name": self.name, "model_version": self.version, "artefact": self.artefact}

    async def logits(self, x: Tensor) -> np.ndarray:
        """Returns the logits of records, (n, classes).

        Args:
            x: (n, ...) records.

        Raises:
            NoFiniteAnswerError: an output is NaN or infinite.
            FullError: too many records wait.
        """
        (logits,) = await self._predicting(x)
        return np.asarray(logits)

    async def explain(self, x: Tensor, method: str) -> tuple[np.ndarray, list[Any], np.ndarray, np.ndarray]:
        """Explains records.

        Args:
            x: (n, ...) records.
            method: of the request.

        Returns:
            Classes, (n,); one array of contributions a record; additivity errors, (n,); errors of single values, (n,).
        """
        target, values, error, value_error = await self._explaining(x, method)
        return np.asarray(target), list(values), np.asarray(error), np.asarray(value_error)

    async def certify(self, x: Tensor, epsilons: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Certifies records.

        Args:
            x: (n, ...) records.
            epsilons: radii.

        Returns:
            Classes, (n,), and whether each is proven within each radius, (n, radii).
        """
        target, proven = await self._certifying(x, epsilons)
        return np.asarray(target), np.asarray(proven)

    @property
    def batchers(self) -> dict[str, Batcher]:
        """Those that have worked, by their work."""
        all_of = {"predict": "_predicting", "explain": "_explaining", "certify": "_certifying"}
        return {work: vars(self)[name] for work, name in all_of.items() if name in vars(self)}

    @cached_property
    def _predicting(self) -> Batcher:
        return Batcher(self._predict, executor=self._predicts_in, most=BATCH, waiting=self.waiting)

    @cached_property
    def _explaining(self) -> Batcher:
        return Batcher(self._explain, executor=self._thread, most=EXPLAINED, waiting=self.waiting)

    @cached_property
    def _certifying(self) -> Batcher:
        return Batcher(self._certify, executor=self._thread, most=EXPLAINED, waiting=self.waiting)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-{self.version}")

    @cached_property
    def _predicts_in(self) -> ThreadPoolExecutor | None:
        """A thread for predictions of their own, so that explanations do not delay them; None for fast models."""
        x = self.model.probe
        self.model.logits(x)
        began = time.perf_counter()
        self.model.logits(x)
        return None if time.perf_counter() - began < _AT_ONCE else ThreadPoolExecutor(1)

    def _predict(self, x: Tensor, key: Hashable) -> tuple[Any, ...]:
        return (self.model.logits(x),)

    def _explain(self, x: Tensor, key: Hashable) -> tuple[Any, ...]:
        target, attribution = self.model.explain(x, str(key))
        columns = (attribution.values, attribution.error, attribution.value_error)
        values, error, value_error = (column.cpu().numpy() for column in columns)
        return target, list(values), error, value_error

    def _certify(self, x: Tensor, key: Hashable) -> tuple[Any, ...]:
        assert isinstance(key, tuple)
        return self.model.certify(x, list(key))


def bring_online(finished: Finished, *, name: str, version: str = "", threads: int = 1) -> Online:
    """Prepares a finished trial to answer requests, and tests it with a known record.

    Args:
        finished: the trained model with its data and evidence.
        name: under which it is served.
        version: of that name; by default the trial.
        threads: torch threads.

    Returns:
        The loaded version.

    Raises:
        NoFiniteAnswerError: it has no finite answer to a record of its own data.
    """
    torch.set_num_threads(threads)
    model = ServedModel(finished)
    card = card_of(finished, name)
    if model.differs_from_card:
        card = replace(card, warnings=(*card.warnings, model.differs_from_card))
    online = Online(
        name=name,
        version=version or finished.trial,
        artefact=finished.artefact,
        model=model,
        card=card,
        held_out=calibrate(finished.subject),
    )
    online.model.check_self()
    return online
