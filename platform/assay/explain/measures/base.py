"""Base class of measures of explanations, and the records on which they measure."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.models.batches import respond
from assay.models.layout import channels_last
from assay.registry import Method
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION

Modalities = frozenset[str]
EVERYWHERE: Modalities = frozenset({"tabular", "image", "signal", "text"})


@dataclass(frozen=True, kw_only=True)
class MeasuredRecords:
    """Records whose explanations are measured, with the model.

    What is drawn at random for a record depends on the seed and on the record itself, so that its score is the same
    alone, in any batch, and beside a longer text.
    """

    model: nn.Module
    """From records to logits, in evaluation mode."""
    x: Tensor
    """(n, ...) records."""
    target: Tensor
    """(n,) class that is explained."""
    reference: Reference
    """What explanations compare the records with; replacements of features come from ``pool`` instead."""
    pool: Tensor
    """(m, ...) other records, of which features are replaced; in text they may have another length."""
    seed: int
    task: Task = CLASSIFICATION
    """Defines when an answer is wrong, and the loss of one."""
    decide: Callable[[Tensor], Tensor] = field(default=CLASSIFICATION.decide, compare=False)
    """From logits (n, classes) to decisions, (n,), perhaps at an operating point; the likeliest class by default."""
    learnt: "Learnt | None" = None
    """What measures need that train a network; None where nothing may be trained."""
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Answers of the model that do not depend on the map, kept by measures from one map to the next."""

    def of_training(self) -> "MeasuredRecords":
        """Returns the training records of the model with their classes, to be asked like these records.

        Returns:
            The records.

        Raises:
            ValueError: there are none.
        """
        if self.learnt is None:
            raise ValueError("the measure trains a network on training records, and none are given: set learnt")
        return replace(self, x=self.learnt.x, target=self.learnt.y, cache={})

    @cached_property
    def features(self) -> Tensor:
        """(n, ...) bool by feature: those that are there; padding of a text is not."""
        present = self.reference.present(self.x)
        if present is not None:
            return present
        return torch.ones_like(self.reference.by_feature(self.x), dtype=torch.bool)

    @cached_property
    def count(self) -> Tensor:
        """(n,) number of features of each record."""
        return self.features.flatten(1).sum(1)

    @cached_property
    def ties(self) -> Tensor:
        """(n, ...) random numbers by feature: a random map, and the order of features with equal scores."""
        return self.drawn("ties", lambda generator, shape: generator.random(shape, np.float32))

    @cached_property
    def shuffled(self) -> Tensor:
        """(n, features) places of the features in the order of ``ties``, highest first."""
        return self.ties.flatten(1).argsort(dim=1, descending=True, stable=True)

    @cached_property
    def reader(self) -> nn.Module:
        """The model for thousands of forward passes; see ``channels_last``."""
        return channels_last(self.model)

    @cached_property
    def whole(self) -> Tensor:
        """(n,) log-odds of the whole records."""
        return log_odds(respond(self.reader, self.x), self.target)

    def drawn(self, purpose: str, draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> Tensor:
        """Draws numbers for each feature of each record.

        Args:
            purpose: names the draw.
            draw: from a generator and a shape to numbers of that shape.

        Returns:
            (n, ...) numbers by feature, of the records' type; 0 for padding.
        """
        features = self.features.cpu().numpy()
        found, counts = np.zeros(features.shape), self.count.tolist()
        for row, generator in enumerate(self.generators(purpose)):
            numbers = draw(generator, (counts[row],))
            if counts[row] == features[row].size:
                found[row] = numbers.reshape(features[row].shape)
            else:
                found[row][features[row]] = numbers
        return torch.from_numpy(found).to(self.x)

    def generators(self, purpose: str) -> list[np.random.Generator]:
        """Returns a generator for each record.

        Args:
            purpose: of what will be drawn.

        Returns:
            n generators, each determined by the seed, the purpose and the record.
        """
        return [seeds.stream(self.seed, "explanation measure", purpose, key) for key in self._keys]

    @cached_property
    def _keys(self) -> list[str]:
        present = self.reference.present(self.x)
        keys = []
        for row in range(len(self.x)):
            record = self.x[row] if present is None else self.x[row][present[row].squeeze(-1)]
            keys.append(hashlib.sha256(record.detach().cpu().numpy().tobytes()).hexdigest())
        return keys


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """Training records of a model, and how it was trained."""

    x: Tensor
    """(k, ...) records that the model learnt from."""
    y: Tensor
    """(k,) their classes."""
    train: Callable[[Tensor, Tensor], nn.Module]
    """Trains a new network of the same kind on records and classes, in evaluation mode when it returns."""


@dataclass(frozen=True, kw_only=True)
class MeasuredMap:
    """A map that is measured: of a method, or of a control."""

    values: Tensor
    """(n, ...) by feature, signed: a greater value speaks more for the class."""
    entries: Tensor | None = None
    """(n, ...) values of the method by entry; None for controls."""
    kind: Literal["contributions", "slopes"] = "contributions"
    """Whether a value is what a feature adds to the answer, or the answer's change by a unit of it."""
    baseline: Tensor | None = None
    """(n, ...) single records from which contributions are counted; None where there are many, or none."""
    again: Callable[[nn.Module, Tensor], Tensor] | None = field(default=None, compare=False)
    """Explains other records of the same targets, perhaps by another network; values by feature. None for controls."""
    of_others: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, compare=False)
    """Explains other records and targets by the same network; values by feature. None for controls."""
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What several measures ask of this map, computed once. A map with other values needs a new one."""


class ExplanationMeasure(Method):
    """Base class. Register with ``@register("explanation_measure")``; write ``score``.

    The class variables are the card of a measure. Whether ``decides`` is right is what
    ``python -m jobs.benchmark explain-rulers`` tests.
    """

    title: ClassVar[str]
    """Name for readers."""
    meaning: ClassVar[str]
    """What a value says, with its unit."""
    catches: ClassVar[str]
    """Faults of a map that change the measure."""
    misses: ClassVar[str]
    """What the measure does not see, or takes for a fault by mistake."""
    better: ClassVar[Literal["higher", "lower", "neither"]]
    decides: ClassVar[bool] = False
    """Whether it passed the checks of measures, so that it may decide between maps; else it is shown only."""
    needs_method: ClassVar[bool] = False
    """Whether it explains other records or networks by the method, so that a control has no score."""
    trains: ClassVar[bool] = False
    """Whether it trains a network on training records, which no ε pays for: see ``MeasuredRecords.learnt``."""
    modalities: ClassVar[Modalities] = EVERYWHERE
    """Kinds of records that it measures."""
    most_entries: ClassVar[int | None] = None
    """Greatest number of entries of a record that it measures; None for any."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        """Scores the map of each record.

        Args:
            records: with the model.
            explained: the map of these records. It must not be changed.

        Returns:
            (n,) scores; NaN where a record has none.
        """
        raise NotImplementedError
