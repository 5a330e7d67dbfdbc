"""Corruptions of text: typing errors."""

from typing import ClassVar, Literal

import numpy as np

from assay.data.base import Dataset, Modality
from assay.data.corruptions.base import Corruption, StrengthShares
from assay.errors import DataError
from assay.registry import register

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: "".join(row[max(place - 1, 0) : place] + row[place + 1 : place + 2])
    for row in _ROWS
    for place, key in enumerate(row)
}
KINDS = ("swap", "drop", "double", "neighbour")


@register("corruption")
class Typos(Corruption):
    """Makes one typing error in some words: letters swapped, one dropped, one doubled, or the key beside it.

    The strength is the fraction of the words; a token without a letter is not a word. Most misspelt words are not in
    the vocabulary.
    """

    modality: ClassVar[Modality] = "text"
    name: Literal["typos"] = "typos"
    strengths: StrengthShares = (0.05, 0.1, 0.2, 0.3, 0.5)

    def run(self, dataset: Dataset, rows: np.ndarray, severity: int, *, generator: np.random.Generator) -> np.ndarray:
        """Returns misspelt records. Severity 0 encodes the sentences again without an error, as a control.

        Args:
            dataset: to which the records belong.
            rows: positions of the records.
            severity: 0 to 5.
            generator: draws the errors.

        Returns:
            (len(rows), ...) records.

        Raises:
            DataError: the data set is not prepared.
        """
        if dataset.language is None:
            raise DataError(
                f"{dataset.name}: typos need the prepared text, for only that knows how words become records; call "
                "Dataset.prepared first"
            )
        sentences = written(dataset, rows)
        if severity:
            sentences = misspelt(sentences, self.strengths[severity - 1], generator=generator)
        return dataset.language.encode(sentences)


def written(dataset: Dataset, rows: np.ndarray) -> list[list[str]]:
    """Returns the words of some records of a text data set, in order.

    Args:
        dataset: of texts.
        rows: positions of the records.

    Returns:
        A list of words for each record.
    """
    positions = (dataset.x if dataset.written is None else dataset.written)[rows]
    return [[dataset.words[place] for place in sentence if place] for sentence in positions]


def misspelt(sentences: list[list[str]], share: float, *, generator: np.random.Generator) -> list[list[str]]:
    """Returns sentences with one typing error in a fraction of their words.

    A larger fraction contains the errors of a smaller one.

    Args:
        sentences: each a list of words.
        share: the fraction.
        generator: draws the errors.

    Returns:
        The sentences.
    """
    changed = []
    for sentence in sentences:
        draws = generator.random((len(sentence), 3))
        changed.append(
            [
                _slip(word, kind, place) if chance < share else word
                for word, (chance, kind, place) in zip(sentence, draws, strict=True)
            ]
        )
    return changed


def _slip(word: str, kind: float, place: float) -> str:
    """Returns a word with one typing error.

    Args:
        word: the word.
        kind: in [0, 1), selects the error.
        place: in [0, 1), selects the position in the word.
    """
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    if not letters:
        return word
    unequal = [i for i in letters if i + 1 in letters and word[i] != word[i + 1]]
    beside = [i for i in letters if word[i].lower() in _NEIGHBOURS]
    where = {"swap": unequal, "drop": letters if len(word) > 1 else [], "double": letters, "neighbour": beside}
    # If a word is too short for the error, a letter is doubled, which is always possible.
    chosen = KINDS[int(kind * len(KINDS))]
    chosen = chosen if where[chosen] else "double"
    i = where[chosen][int(place * len(where[chosen]))]
    if chosen == "swap":
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if chosen == "drop":
        return word[:i] + word[i + 1 :]
    if chosen == "double":
        return word[: i + 1] + word[i:]
    keys = _NEIGHBOURS[word[i].lower()]
    # The remainder of the same draw selects the key.
    key = keys[int(place * len(where[chosen]) % 1 * len(keys))]
    return word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]
