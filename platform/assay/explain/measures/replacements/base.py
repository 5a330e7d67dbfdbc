"""Base class of replacements, and the panel of a kind of records."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.registry import Method, methods

Fill = Callable[[Tensor, Tensor], Tensor]
"""From rows (k,), positions of records, and (k, ...) bool by feature, which are removed, to (k, ...) records."""


class Replacement(Method):
    """Base class. Register with ``@register("replacement")``; write ``prepare``.

    A removed feature gets a value that a record of this kind could have. None is the baseline or the background of an
    explanation method, which would favour that method.
    """

    title: ClassVar[str]
    """Name for readers."""
    modalities: ClassVar[Modalities]
    """Kinds of records whose features it replaces."""
    imputes: ClassVar[bool] = False
    """Whether values fit those of the remaining features."""

    def prepare(self, records: MeasuredRecords) -> Fill:
        """Prepares the replacement of features of some records.

        Args:
            records: whose features are removed.

        Returns:
            The function that removes features. What it draws is the same at each call.
        """
        raise NotImplementedError


def panel(modality: str) -> tuple[Replacement, ...]:
    """Returns the replacements of a kind of records: three or more, in the order of their names.

    Args:
        modality: of the records.

    Returns:
        The replacements with their usual settings.
    """
    known: list[tuple[str, Any]] = sorted(methods("replacement").items())
    return tuple(kind() for _, kind in known if modality in kind.modalities and kind.__module__.startswith("assay."))


def prepared(records: MeasuredRecords, replacement: Replacement) -> Fill:
    """Returns the function of a replacement for some records, prepared once for all measures and maps.

    Args:
        records: whose features are removed.
        replacement: with its settings.

    Returns:
        The function that removes features.
    """
    key = ("replacement", replacement)
    if key not in records.cache:
        records.cache[key] = replacement.prepare(records)
    found: Fill = records.cache[key]
    return found


def imputing(modality: str) -> Replacement:
    """Returns the replacement of a kind of records that fits what is left: it hides that something was removed.

    Args:
        modality: of the records.

    Returns:
        Interpolation, regression on the remaining features, or words of other texts.
    """
    (found,) = (one for one in panel(modality) if one.imputes)
    return found


def donors(records: MeasuredRecords, purpose: str) -> np.ndarray:
    """Draws another record of the pool for each record.

    Args:
        records: with their pool; a pool of one record gives that one.
        purpose: names the draw.

    Returns:
        (n,) positions in the pool; never that of an equal record where there is another.
    """
    pool, x = records.pool.to(records.x), records.x
    found = []
    for row, generator in enumerate(records.generators(purpose)):
        order = generator.permutation(len(pool))
        others = [one for one in order if pool.shape[1:] != x.shape[1:] or not torch.equal(pool[one], x[row])]
        found.append(int(others[0] if others else order[0]))
    return np.array(found)
