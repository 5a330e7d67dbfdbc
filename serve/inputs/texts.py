"""Texts as the words that a model reads."""

from collections.abc import Sequence
from typing import Any

import torch

from assay.data.base import Dataset, Language
from assay.data.text.words import words_of
from serve.inputs.records import Records
from serve.refusals import RefusedError

_MOST_UNKNOWN = 0.5
"""Share of unknown words above which an answer warns."""


def read_texts(given: Sequence[Any], dataset: Dataset) -> Records:
    """Converts texts to the input of a model of text.

    Args:
        given: the texts.
        dataset: prepared, with its language.

    Returns:
        The records, with the words of each text.

    Raises:
        RefusedError: one is no text of at least one word, or holds half of a surrogate pair, which UTF-8 cannot write.
    """
    language = dataset.language
    assert language is not None, "data sets of text are served after their preparation"
    sentences = []
    for number, text in enumerate(given):
        if type(text) is not str:
            raise RefusedError(f"record {number} is no text: this model reads strings of at least one word")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise RefusedError(f"record {number} holds half of a surrogate pair: send valid Unicode")
        sentence = words_of(text)
        if not sentence:
            raise RefusedError(f"record {number} is no text: this model reads strings of at least one word")
        sentences.append(sentence)
    x = torch.from_numpy(language.encode(sentences))
    warnings = tuple(_warnings(language, sentence) for sentence in sentences)
    words = [language.pieces(sentence) for sentence in sentences]
    return Records(x=x, words=words, warnings=warnings if any(warnings) else ())


def _warnings(language: Language, sentence: Sequence[str]) -> tuple[str, ...]:
    """Returns what of a text the model does not read."""
    read = language.words_read(sentence)
    warnings = []
    if read < len(sentence):
        warnings.append(f"the model reads the first {read} of {len(sentence)} words")
    unknown = language.words_unknown(sentence[:read])
    if unknown > _MOST_UNKNOWN * read:
        warnings.append(f"{unknown} of {read} words are unknown to the model")
    return tuple(warnings)
