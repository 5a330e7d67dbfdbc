"""Controls that need no model: the middle, edges, unusual values, features and words that matter on the whole."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.controls.base import Control
from assay.explain.measures.replacements.words import word_counts
from assay.registry import register


@register("explanation_control")
class Centre(Control):
    """Nearness to the middle of the image or the signal: photographers and segmenters put there what matters."""

    name: Literal["centre"] = "centre"
    title: ClassVar[str] = "nearness to the middle"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})
    random: ClassVar[bool] = False
    of_the_map: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        distance = values.new_zeros(values.shape[2:])
        for axis, size in enumerate(values.shape[2:]):
            place = torch.linspace(-1, 1, size, dtype=values.dtype, device=values.device)
            shape = [1] * (values.dim() - 2)
            shape[axis] = size
            distance = distance + place.view(shape).square()
        return (-distance).expand_as(values)


@register("explanation_control")
class Edges(Control):
    """Steepness of the record itself: an edge detector."""

    name: Literal["edges"] = "edges"
    title: ClassVar[str] = "edges of the record"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})
    random: ClassVar[bool] = False
    of_the_map: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        axes = [axis for axis in range(2, records.x.dim()) if records.x.shape[axis] > 1]
        slopes = torch.gradient(records.x, dim=axes) if axes else ()
        return records.reference.by_feature(sum((slope.square() for slope in slopes), torch.zeros_like(records.x)))


@register("explanation_control")
class Magnitude(Control):
    """Distance of the record from its own mean: of an ECG, the height of its waves; of an X-ray, bright and dark."""

    name: Literal["magnitude"] = "magnitude"
    title: ClassVar[str] = "height of the signal"
    modalities: ClassVar[Modalities] = frozenset({"image", "signal"})
    random: ClassVar[bool] = False
    of_the_map: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        middle = records.x.mean(tuple(range(2, records.x.dim())), keepdim=True)
        return records.reference.by_feature((records.x - middle).abs())


@register("explanation_control")
class Deviation(Control):
    """How unusual each value is: its distance from the mean of the pool; of a table, in standard deviations.

    It knows the record and the data, and no model. Catches maps such as |x − baseline|, |x|, or the rarity of a value.
    Misses what also knows which features decide, such as the same times the weights of another model. An honest map
    may be near to it: where all features count alike, and of signals, whose waves are both what deviates and what
    decides. Of signals a map that does not beat it is inconclusive.
    """

    name: Literal["deviation"] = "deviation"
    title: ClassVar[str] = "how unusual each value is"
    modalities: ClassVar[Modalities] = frozenset({"tabular", "image", "signal"})
    near_honest_maps: ClassVar[Modalities] = frozenset({"signal"})
    random: ClassVar[bool] = False
    of_the_map: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        known = records.pool.to(records.x)
        distance = (records.x - known.mean(0)).abs()
        if records.reference.modality == "tabular":  # columns have units of their own, pixels and samples have not
            spread = known.std(0, correction=0)
            distance = torch.where(spread > 0, distance / torch.where(spread > 0, spread, 1), 0)
        return records.reference.by_feature(distance)


@register("explanation_control")
class GlobalRanking(Control):
    """The mean map of the other records: which features matter on the whole, whatever the record is."""

    name: Literal["global_ranking"] = "global_ranking"
    title: ClassVar[str] = "the mean map of the other records"
    modalities: ClassVar[Modalities] = frozenset({"tabular"})
    random: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        if len(values) < 2:
            raise ValueError("the mean map of other records needs two records, and 1 was given")
        return (values.sum(0, keepdim=True) - values) / (len(values) - 1)


@register("explanation_control")
class RareWords(Control):
    """Rarity of a word: the fewer texts of the pool have it, the higher."""

    name: Literal["rare_words"] = "rare_words"
    title: ClassVar[str] = "rarity of a word"
    modalities: ClassVar[Modalities] = frozenset({"text"})
    random: ClassVar[bool] = False
    of_the_map: ClassVar[bool] = False

    def draw(self, records: MeasuredRecords, values: Tensor, number: int) -> Tensor:
        return -(1 + word_counts(records)).log() * records.features
