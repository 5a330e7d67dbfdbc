"""What happens to text on the way: haste."""

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
    """One slip of the keyboard in some words: letters swapped, one dropped, one doubled, or the key beside it.

    The strength is the share of the words; what holds no letter is no word. Most misspelt words are in no vocabulary.
    """

    modality: ClassVar[Modality] = "text"
    name: Literal["typos"] = "typos"
    strengths: StrengthShares = (0.05, 0.1, 0.2, 0.3, 0.5)

    def run(self, dataset: Dataset, rows: np.ndarray, severity: int, *, generator: np.random.Generator) -> np.ndarray:
        """Severity 0 writes the sentences anew, without a slip, so that one can see whether that changes anything."""
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
    """The words of some records of a text data set, in order."""
    positions = (dataset.x if dataset.written is None else dataset.written)[rows]
    return [[dataset.words[place] for place in sentence if place] for sentence in positions]


def misspelt(sentences: list[list[str]], share: float, *, generator: np.random.Generator) -> list[list[str]]:
    """The sentences with one slip in so many of their words; a larger share holds the slips of the smaller."""
    found = []
    for sentence in sentences:
        luck = generator.random((len(sentence), 3))
        found.append(
            [
                _slip(word, kind, place) if chance < share else word
                for word, (chance, kind, place) in zip(sentence, luck, strict=True)
            ]
        )
    return found


def _slip(word: str, kind: float, place: float) -> str:
    """The word with one slip.

    Args:
        kind: from 0 to 1, which slip.
        place: from 0 to 1, where in the word.
    """
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    if not letters:
        return word
    unequal = [i for i in letters if i + 1 in letters and word[i] != word[i + 1]]
    beside = [i for i in letters if word[i].lower() in _NEIGHBOURS]
    where = {"swap": unequal, "drop": letters if len(word) > 1 else [], "double": letters, "neighbour": beside}
    # A word too short for its slip has a letter doubled, which is always possible.
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
    # The same draw again, where it falls within its letter.
    key = keys[int(place * len(where[chosen]) % 1 * len(keys))]
    return word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]
