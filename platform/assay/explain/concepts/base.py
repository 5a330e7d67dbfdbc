"""Base class of concepts: what some records share, given by examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.data.base import Modality
from assay.explain.base import ExplanationError
from assay.registry import Method

FEWEST_EXAMPLES = 10
"""Examples below which a concept has no vector."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Records that are neither explained nor used in training, from which examples are made."""

    x: Tensor
    """(m, ...) records, as the network takes them."""
    modality: Modality
    low: Tensor
    """Least and greatest valid value of an entry; broadcast to a record."""
    high: Tensor
    words: Sequence[Sequence[str]] | None = None
    """Of texts, the words of each."""


class Concept(Method):
    """Base class. Register with ``@register("concept")``; write ``examples``, or ``plant`` of one that is drawn."""

    modalities: ClassVar[tuple[Modality, ...]]
    """Kinds of records that it can be seen in."""
    label: str = Field(default="", max_length=60)
    """Name for readers; that of the kind by default."""

    @property
    def shown(self) -> str:
        """Name for readers."""
        return self.label or self.name.replace("_", " ")

    @property
    def described(self) -> str:
        """What the examples share, in a few words."""
        raise NotImplementedError

    def examples(self, pool: Pool, most: int, draw: np.random.Generator) -> Tensor:
        """Returns examples of the concept.

        Args:
            pool: records from which they may be made.
            most: greatest number of examples.
            draw: of what is random.

        Returns:
            (k, ...) records with the concept, at most ``most``.

        Raises:
            ExplanationError: there are too few examples, or they are of another kind than the records.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns a hash of files that the examples are read from; empty where there are none."""
        return ""


class PlantedConcept(Concept):
    """A concept of images that is drawn into records of the pool: all else is as in other records."""

    modalities: ClassVar[tuple[Modality, ...]] = ("image",)

    def plant(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        """Draws the concept into images.

        Args:
            x: (k, channels, height, width) images; not changed in place.
            pool: that they are from.
            draw: of what is random.

        Returns:
            (k, channels, height, width) images with the concept, within the valid bounds.
        """
        raise NotImplementedError

    def examples(self, pool: Pool, most: int, draw: np.random.Generator) -> Tensor:
        rows = draw.permutation(len(pool.x))[:most]
        return self.planted(pool.x[torch.from_numpy(rows).to(pool.x.device)], pool, draw)

    def planted(self, x: Tensor, pool: Pool, draw: np.random.Generator) -> Tensor:
        """Returns images with the concept, within the valid bounds.

        Args:
            x: (k, channels, height, width) images; they stay as they are.
            pool: that gives the bounds.
            draw: of what is random.

        Returns:
            (k, channels, height, width) images.
        """
        planted = self.plant(x.clone(), pool, draw)
        return torch.maximum(torch.minimum(planted, pool.high.to(x)), pool.low.to(x))


def white(pool: Pool, share: float) -> float:
    """Returns a bright value: that far from the least to the greatest value of a pixel.

    Args:
        pool: of images.
        share: 1 for the greatest.

    Returns:
        The value; the ends are those of the pool's images where the valid bounds are infinite.
    """
    ends = [float(pool.low.amin()), float(pool.high.amax())]
    if not np.isfinite(ends).all():
        ends = [float(pool.x.amin()), float(pool.x.amax())]
    return ends[0] + share * (ends[1] - ends[0])


def refuse_few(count: int, what: str) -> None:
    """Refuses a concept of too few examples.

    Args:
        count: of examples.
        what: they are, for the message.

    Raises:
        ExplanationError: there are fewer than ten.
    """
    if count < FEWEST_EXAMPLES:
        error = ExplanationError(f"{count} {what}: a concept needs {FEWEST_EXAMPLES} examples or more")
        error.reason = "too_few_records"
        raise error
