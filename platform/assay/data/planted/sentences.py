"""Sentences from templates, whose class is a planted word of praise or blame, with or without a negation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import seeds
from assay.data.base import Dataset
from assay.data.planted.base import DRAWN, Planted
from assay.data.text.sources import TextSource
from assay.data.text.tables import Document, DocumentTable
from assay.registry import register

PRAISE = ("good", "kind", "helpful", "clear", "gentle")
BLAME = ("bad", "rude", "useless", "confusing", "rough")
NEGATIONS = ("not", "never")
_SUBJECTS = ("the nurse", "the doctor", "our ward", "the clinic", "this visit", "the letter")
_TIMES = ("today", "on monday", "last week", "in the morning", "at night")
_ASIDES = ("with my mother", "near the window", "on the second floor", "beside the old lift", "after lunch")


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    words: list[list[str]]
    truth: list[list[bool]]
    positive: np.ndarray


@register("dataset")
class PlantedSentences(TextSource, Planted):
    """Short sentences on a stay in hospital; the class is that of one planted word, reversed by a negation before it.

    All other words are drawn alike for both classes. The truth is the planted word, and the negation where there is
    one.
    """

    name: Literal["planted_sentences"] = "planted_sentences"
    length: int = Field(default=16, ge=16)
    """Number of words of a record: that of the longest sentence, or more."""
    negated: float = Field(default=0.3, ge=0, le=1)
    """Share of the sentences with a negation."""
    classes: ClassVar[Mapping[str, str]] = {"0": "blame", "1": "praise"}
    licence_text: ClassVar[str] = "none needed"

    def table(self) -> DocumentTable:
        drawn = self._drawn()
        documents = [
            Document(text=" ".join(words), label=str(int(positive)), where=f"sentence {number}")
            for number, (words, positive) in enumerate(zip(drawn.words, drawn.positive, strict=True), 1)
        ]
        return DocumentTable(documents=documents, reading=(f"{len(documents):,} sentences",))

    def load(self) -> Dataset:
        data = super().load()
        return replace(data, warnings=(DRAWN, *data.warnings), stated=(DRAWN, *data.stated))

    def truth(self, rows: np.ndarray | None = None) -> np.ndarray:
        known = self._drawn().truth
        mask = np.zeros((self.size, max(map(len, known)), 1), bool)
        for row, of_words in zip(mask, known, strict=True):
            row[: len(of_words), 0] = of_words
        return mask if rows is None else mask[rows]

    def _drawn(self) -> _Drawn:
        generator = seeds.stream(self.draw, self.name, "records")
        positive = generator.permutation(np.arange(self.size) % 2) == 1
        drawn = _Drawn(words=[], truth=[], positive=positive)
        for praised in positive.tolist():
            negated = bool(generator.random() < self.negated)
            planted = [str(generator.choice(PRAISE if praised != negated else BLAME))]
            if negated:
                planted.insert(0, str(generator.choice(NEGATIONS)))
            parts = [generator.choice(_TIMES), generator.choice(_SUBJECTS), "was"]
            before = " ".join(map(str, parts[generator.integers(2) :])).split()
            after = str(generator.choice(_ASIDES)).split() if generator.random() < 0.6 else []
            drawn.words.append([*before, *planted, *after])
            drawn.truth.append([word in planted for word in drawn.words[-1]])
        return drawn
