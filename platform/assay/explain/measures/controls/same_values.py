"""Controls that keep what a map looks like and lose where it points: its spectrum, or the list of its values."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.controls.base import Control, each_record
from assay.registry import register


@register("explanation_control")
class SameSpectrum(Control):
    """Random fields with the spectrum and the mean of the map: as smooth, as rough, and of the same strength."""

    name: Literal["same_spectrum"] = "same_spectrum"
    title: ClassVar[str] = "a random field of the same spectrum"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        axes = tuple(range(2, values.dim()))
        drawn = records.drawn(f"spectrum {number}", lambda generator, shape: generator.standard_normal(shape))
        phases = torch.fft.fftn(drawn.double(), dim=axes)
        size = torch.fft.fftn(values.double(), dim=axes).abs()
        # The phases of real noise are those of a real field. The mean is that of the map, with its sign.
        field = torch.fft.ifftn(size * phases / phases.abs().clamp_min(1e-300), dim=axes).real
        apart = values.double().mean(axes, keepdim=True) - field.mean(axes, keepdim=True)
        return (field + apart).to(values)


@register("explanation_control")
class Shuffled(Control):
    """The values of the map in a random order."""

    name: Literal["shuffled"] = "shuffled"
    title: ClassVar[str] = "the same values in a random order"
    modalities: ClassVar[Modalities] = frozenset({"tabular", "text"})

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        generators = records.generators(f"shuffled {number}")
        return each_record(records, values, lambda row, own: generators[row].permutation(own))


@register("explanation_control")
class OtherRecord(Control):
    """The map of another record; of a text of another length, stretched or shrunk to this one's."""

    name: Literal["other_record"] = "other_record"
    title: ClassVar[str] = "another record's map"
    modalities: ClassVar[Modalities] = frozenset({"tabular", "image", "signal", "text"})

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        others = self.others(records, number)
        features, held = records.features.cpu().numpy(), values.detach().cpu().double().numpy()
        maps = [held[row][features[row]] for row in range(len(values))]

        def of_other(row: int, own: np.ndarray) -> np.ndarray:
            other = maps[others[row]]
            if not len(other):
                return np.zeros(len(own))
            return other if len(other) == len(own) else other[np.arange(len(own)) * len(other) // max(len(own), 1)]

        return each_record(records, values, of_other)

    def others(self, records: MeasuredRecords, number: int) -> np.ndarray:
        """Draws another record for each.

        Args:
            records: two or more.
            number: of the draw.

        Returns:
            (n,) positions, none its own.

        Raises:
            ValueError: a single record.
        """
        n = len(records.x)
        if n < 2:
            raise ValueError("another record's map needs two records, and 1 was given")
        key = ("other record", number)
        if key not in records.cache:
            generators = records.generators(f"other record {number}")
            steps = np.array([int(generator.integers(1, n)) for generator in generators])
            records.cache[key] = (np.arange(n) + steps) % n
        found: np.ndarray = records.cache[key]
        return found
