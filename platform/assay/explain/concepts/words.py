"""Texts that hold one of some words."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from assay.data.base import Modality
from assay.explain.base import ExplanationError
from assay.explain.concepts.base import Concept, Pool, refuse_few
from assay.registry import register


@register("concept")
class Words(Concept):
    """The texts of the pool in which one of the words stands, such as those with a negation."""

    name: Literal["words"] = "words"
    modalities: ClassVar[tuple[Modality, ...]] = ("text",)
    words: tuple[str, ...] = Field(min_length=1)
    """The words, compared without case; one of them suffices."""

    @field_validator("words")
    @classmethod
    def _are_single(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if not word.strip() or len(word.split()) > 1:
                raise ValueError(f"{word!r} is no single word: give words one by one")
        return words

    @property
    def shown(self) -> str:
        return self.label or " / ".join(self.words[:3])

    @property
    def described(self) -> str:
        return f"texts with one of: {', '.join(self.words)}"

    def examples(self, pool: Pool, most: int, draw: np.random.Generator) -> Tensor:
        if pool.words is None:
            raise ExplanationError("positions of these records cannot be told in words")
        wanted = {word.casefold() for word in self.words}
        rows = [row for row, text in enumerate(pool.words) if wanted & {word.casefold() for word in text}]
        refuse_few(len(rows), f"texts hold one of the words {', '.join(self.words)}")
        chosen = draw.permutation(rows)[:most]
        return pool.x[torch.from_numpy(chosen).to(pool.x.device)]
