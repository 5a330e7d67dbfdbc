"""Words of a text, and texts as positions of words. Naming words learns nothing from them."""

import html
import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+|[^\w\s]")
_TAG = re.compile(r"<[^<>]*>")
PADDING = ""


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks, without HTML."""
    return _WORD.findall(html.unescape(_TAG.sub(" ", text)).lower())


def as_positions(sentences: Sequence[Sequence[str]], length: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Every word that occurs, padding first, and the sentences as positions among them, (n, longest) int32."""
    kept = [sentence[:length] for sentence in sentences]
    words = (PADDING, *sorted({word for sentence in kept for word in sentence}))
    place = {word: number for number, word in enumerate(words)}
    written = np.zeros((len(kept), max(len(sentence) for sentence in kept)), np.int32)
    for row, sentence in zip(written, kept, strict=True):
        row[: len(sentence)] = [place[word] for word in sentence]
    return words, written
