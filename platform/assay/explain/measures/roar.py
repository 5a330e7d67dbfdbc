"""ROAR: does a network that is trained without the most important features answer worse? (Hooker et al. 2019)"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords, Modalities
from assay.explain.measures.curves import ranked
from assay.explain.measures.replacements.base import imputing, prepared
from assay.models.batches import respond
from assay.registry import register


@register("explanation_measure")
class Roar(ExplanationMeasure):
    """Errors of networks that are trained and asked without the most important features, minus without random ones.

    It trains a network for each share and method, so it is meant for tables and small images (arXiv:1806.10758).
    """

    name: Literal["roar"] = "roar"
    title: ClassVar[str] = "ROAR"
    meaning: ClassVar[str] = (
        "Errors of networks that were trained without the most important features, minus those of networks that were "
        "trained without as many random ones."
    )
    catches: ClassVar[str] = "Features that the data need for the answer and the map ranks low."
    misses: ClassVar[str] = (
        "Features that others can stand in for. Blurred maps score higher, and the shape of what was removed tells the "
        "class."
    )
    better: ClassVar[Literal["higher"]] = "higher"
    needs_method: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    modalities: ClassVar[Modalities] = frozenset({"tabular", "image"})
    most_entries: ClassVar[int | None] = 1024
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(0.3, 0.6), min_length=1)
    """Shares of the features that are removed; each trains two networks for the first method and one for each other."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        assert explained.of_others is not None
        held = records.of_training()
        decided = records.decide(respond(records.model, held.x))
        learnt = explained.of_others(held.x, decided)
        found = [
            self._errors(records, held, share, explained.values, learnt) - self._at_random(records, held, share)
            for share in self.shares
        ]
        return torch.stack(found).mean(0)

    def _at_random(self, records: MeasuredRecords, held: MeasuredRecords, share: float) -> Tensor:
        key = ("roar at random", share)
        if key not in records.cache:
            records.cache[key] = self._errors(records, held, share, records.ties, held.ties)
        found: Tensor = records.cache[key]
        return found

    def _errors(
        self, records: MeasuredRecords, held: MeasuredRecords, share: float, asked: Tensor, learnt: Tensor
    ) -> Tensor:
        """Returns which records a network gets wrong that is trained and asked without the highest values, (n,)."""
        train: Callable[[Tensor, Tensor], torch.nn.Module] = records.learnt.train  # type: ignore[union-attr]
        network = train(_without(held, learnt, share), held.target)
        answers = respond(network, _without(records, asked, share))
        return (records.decide(answers) != records.target).to(records.x)


def _without(records: MeasuredRecords, values: Tensor, share: float) -> Tensor:
    rank = ranked(records, values)
    count = records.count.view(-1, *[1] * (rank.dim() - 1))
    rows = torch.arange(len(records.x), device=records.x.device)
    return prepared(records, imputing(records.reference.modality))(rows, rank < (share * count).round())
