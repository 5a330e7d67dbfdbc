"""What stands in place of removed words: other words, an average word, or nothing."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords, Modalities
from assay.explain.measures.replacements.base import Fill, Replacement
from assay.registry import register

_TEXT: Modalities = frozenset({"text"})


@register("replacement")
class OtherWords(Replacement):
    """A removed word is replaced by a word drawn from other texts."""

    name: Literal["other_words"] = "other_words"
    title: ClassVar[str] = "words of other texts"
    modalities: ClassVar[Modalities] = _TEXT
    imputes: ClassVar[bool] = True

    def prepare(self, records: MeasuredRecords) -> Fill:
        known = _words(records)
        drawn = records.drawn("other words", lambda generator, shape: generator.random(shape)).double()
        others = known[(drawn.squeeze(-1) * len(known)).long().clamp_max(len(known) - 1)]
        return lambda rows, removed: torch.where(removed, others[rows], records.x[rows])


@register("replacement")
class MeanWord(Replacement):
    """A removed word is replaced by the mean of the vectors of all words."""

    name: Literal["mean_word"] = "mean_word"
    title: ClassVar[str] = "the mean word vector"
    modalities: ClassVar[Modalities] = _TEXT

    def prepare(self, records: MeasuredRecords) -> Fill:
        mean = _words(records).mean(0)
        return lambda rows, removed: torch.where(removed, mean, records.x[rows])


@register("replacement")
class LeftOut(Replacement):
    """A removed word is left out, and the words after it move up."""

    name: Literal["left_out"] = "left_out"
    title: ClassVar[str] = "left out, the rest moves up"
    modalities: ClassVar[Modalities] = _TEXT

    def prepare(self, records: MeasuredRecords) -> Fill:
        mean = _words(records).mean(0)

        def fill(rows: Tensor, removed: Tensor) -> Tensor:
            kept = records.features[rows] & ~removed
            order = (~kept).squeeze(-1).to(torch.uint8).argsort(dim=1, stable=True)
            moved = (records.x[rows] * kept).gather(1, order.unsqueeze(-1).expand_as(records.x[rows]))
            # A text without words is no text: an average word is left.
            moved[:, 0] = torch.where(kept.flatten(1).any(1, keepdim=True), moved[:, 0], mean)
            return moved

        return fill


def _words(records: MeasuredRecords) -> Tensor:
    """Returns the vectors of all words of the pool, (words, numbers); of the records where the pool has none."""
    for texts in (records.pool.to(records.x), records.x):
        found = texts[(texts != 0).any(-1)]
        if len(found):
            return found
    return records.x.new_zeros(1, records.x.shape[-1])


def word_counts(records: MeasuredRecords) -> Tensor:
    """Returns how often each word stands in the texts of the pool.

    Args:
        records: texts.

    Returns:
        (n, words, 1) counts; 0 for words that are not there, and for padding.
    """
    counts: dict[bytes, int] = {}
    for text in records.pool.to(records.x).cpu().numpy():
        for word in text[(text != 0).any(-1)]:
            counts[word.tobytes()] = counts.get(word.tobytes(), 0) + 1
    own = records.x.cpu().numpy()
    found = np.array([[counts.get(word.tobytes(), 0) for word in text] for text in own], np.float32)
    return torch.from_numpy(found).to(records.x).unsqueeze(-1) * records.features
