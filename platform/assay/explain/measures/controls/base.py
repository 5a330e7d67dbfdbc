"""Base class of control maps, which a map must beat before it counts as faithful."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.registry import Method, methods


class Control(Method):
    """Base class. Register with ``@register("explanation_control")``; write ``draw``.

    White noise is an easy control: smooth maps beat it, whatever they show.
    """

    title: ClassVar[str]
    """Name for readers."""
    modalities: ClassVar[Modalities]
    """Kinds of records that it has maps of."""
    random: ClassVar[bool] = True
    """Whether another draw gives another map."""
    of_the_map: ClassVar[bool] = True
    """Whether it is made from the map that it is compared with, not from the records alone."""
    decides: ClassVar[bool] = True
    """Whether a faithful map must beat it. The blurred map is itself an explanation: it only marks the measure."""
    near_honest_maps: ClassVar[Modalities] = frozenset()
    """Kinds of records whose honest maps are near to it: there a map must beat it to be better, and none is called no
    better for being near to it."""

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        """Returns control maps.

        Args:
            records: that are explained.
            values: (n, ...) by feature, the maps that are compared; not changed.
            number: of the draw.

        Returns:
            (n, ...) by feature.
        """
        raise NotImplementedError


def controls_of(modality: str) -> tuple[Control, ...]:
    """Returns the controls of a kind of records, in the order of their names.

    Args:
        modality: of the records.

    Returns:
        The controls with their usual settings.
    """
    known: list[tuple[str, Any]] = sorted(methods("explanation_control").items())
    return tuple(kind() for _, kind in known if modality in kind.modalities and kind.__module__.startswith("assay."))


def each_record(records: MeasuredRecords, values: Tensor, change: Callable[[int, np.ndarray], np.ndarray]) -> Tensor:
    """Returns maps in which the values of each record's own features are changed; padding keeps 0.

    Args:
        records: that are explained.
        values: (n, ...) by feature.
        change: from the row and its (features,) values to as many values.

    Returns:
        (n, ...) by feature.
    """
    found, features = torch.zeros_like(values).cpu(), records.features.cpu()
    held = values.detach().cpu().double().numpy()
    for row in range(len(values)):
        own = features[row]
        found[row][own] = torch.from_numpy(np.asarray(change(row, held[row][own.numpy()]))).to(found.dtype)
    return found.to(values)
