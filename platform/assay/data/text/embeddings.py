"""Embeddings of words: learnt with the network, or by Word2Vec before it, from the training split alone."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from assay import seeds
from assay.data.base import Dataset, Tokens
from assay.errors import DataError
from assay.recipes import Federation
from assay.registry import Method, register

UNKNOWN = "<unknown>"
"""Entry at position 1, after padding, for every word that is not in the vocabulary."""
_MOST = 0.5
"""Fraction of unknown words above which a warning is given."""


class Embedding(Method):
    """A ``Preparation`` of text. Register it with ``@register("embedding")`` and write ``fit``."""

    epsilons: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.5)
    """Radii (L∞) at which robustness is evaluated by default, for vectors with entries of standard deviation 1."""

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        """Learns from the training split and returns the texts as a network takes them; see ``data.base.Preparation``.

        Args:
            dataset: of texts.
            train: positions of the training records.
            seed: of whatever is drawn at random.

        Returns:
            The prepared data set.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """Returns all settings as text, for the hash that names a trial."""
        return self.model_dump_json()

    def owes(self) -> str:
        """Returns what is learnt from texts without a charge of ε; see ``data.base.Preparation``."""
        return ""

    def pools(self, federation: Federation) -> str:
        """Returns what clients cannot learn without pooling texts: all that is learnt from them, since a list of the
        clients' words may hold names.

        Args:
            federation: which says whose texts a client holds.

        Returns:
            A text; empty if nothing is learnt.
        """
        return self.owes()


UNPAID = (
    "its words are learnt from the texts, and no ε is charged for it; use the embedding encoder, word2vec with the "
    "path of public vectors, or learned with a public vocabulary"
)
"""Reason why no ε can be claimed if an embedding learns its words from the texts."""


@register("embedding")
class Learned(Embedding):
    """A vector for each word of the training split, drawn at random and trained with the network."""

    name: Literal["learned"] = "learned"
    dimension: int = Field(default=100, ge=1)
    smallest_count: int = Field(default=2, ge=1)
    """Least number of occurrences of a word in the training split for it to be in the vocabulary."""
    vocabulary: str | None = None
    """A public file of words, one a line, instead of those of the texts; then a private recipe spends nothing on its
    vocabulary."""

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        vocabulary = (
            common_words(dataset, train, self.smallest_count) if self.vocabulary is None else _lines(self.vocabulary)
        )
        words = (dataset.words[0], UNKNOWN, *vocabulary)
        vectors = seeds.stream(seed, "word vectors").standard_normal((len(words), self.dimension), np.float32)
        description = "vectors learnt with the network" + (
            "" if self.vocabulary is None else f", of the public {Path(self.vocabulary).name}"
        )
        return in_vocabulary(
            dataset, train, words, vectors, trainable=True, said=description, unpaid=self.vocabulary is None
        )

    def describe(self) -> str:
        return super().describe() + ("" if self.vocabulary is None else _digest(self.vocabulary))

    def owes(self) -> str:
        return UNPAID if self.vocabulary is None else ""


@register("embedding")
class Word2Vec(Embedding):
    """Skip-gram vectors with negative sampling (Mikolov et al. 2013, arXiv:1310.4546), trained by gensim or loaded."""

    name: Literal["word2vec"] = "word2vec"
    path: str | None = None
    """A public file in word2vec's own format (text, or binary if it ends in ``.bin``), instead of training. All of its
    words are the vocabulary, whichever of them the texts use; so a private recipe spends nothing on it."""
    dimension: int = Field(default=100, ge=1)
    window: int = Field(default=5, ge=1)
    epochs: int = Field(default=15, ge=1)
    smallest_count: int = Field(default=2, ge=1)
    trainable: bool = False
    """Whether training changes the vectors."""

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        vocabulary, raw_vectors = self._trained(dataset, train, seed) if self.path is None else self._read(dataset)
        words = (dataset.words[0], UNKNOWN, *vocabulary)
        # Entries of standard deviation 1, so that a radius means the same whatever trained the vectors.
        vectors = np.concatenate(
            [np.zeros((2, raw_vectors.shape[1]), np.float32), raw_vectors / raw_vectors.std()]
        ).astype(np.float32)
        vectors[1] = vectors[2:].mean(0)
        description = f"Word2Vec {'trained on the training split' if self.path is None else Path(self.path).name}"
        return in_vocabulary(
            dataset, train, words, vectors, trainable=self.trainable, said=description, unpaid=self.path is None
        )

    def describe(self) -> str:
        return super().describe() + ("" if self.path is None else _digest(self.path))

    def owes(self) -> str:
        return UNPAID if self.path is None else ""

    def _trained(self, dataset: Dataset, train: np.ndarray, seed: int) -> tuple[tuple[str, ...], np.ndarray]:
        from gensim.models import Word2Vec as Gensim

        if not common_words(dataset, train, self.smallest_count):
            words = len(common_words(dataset, train, 1))
            raise DataError(
                f"{dataset.name}: none of the {words} words of the training split occurs "
                f"smallest_count={self.smallest_count} times, so word2vec has nothing to learn from; lower it"
            )
        model = Gensim(
            sentences_at(dataset, train),
            vector_size=self.dimension,
            window=self.window,
            epochs=self.epochs,
            min_count=self.smallest_count,
            sg=1,
            workers=1,  # more would make the result depend on their timing
            seed=seeds.torch_seed(seed, "word2vec") % 2**32,
        )
        order = sorted(model.wv.index_to_key)
        return tuple(order), np.stack([model.wv[word] for word in order])

    def _read(self, dataset: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
        from gensim.models import KeyedVectors

        path = Path(str(self.path)).expanduser()
        try:
            loaded = KeyedVectors.load_word2vec_format(str(path), binary=path.suffix == ".bin")
        except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
            raise DataError(
                f"word vectors {self.path!r} cannot be read: {error}; give word2vec's own text or .bin format"
            ) from None
        if not any(word in loaded for word in dataset.words[1:]):
            raise DataError(f"word vectors {self.path!r} know none of the {len(dataset.words) - 1} words of the texts")
        return tuple(loaded.index_to_key), loaded.vectors


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The ``Language`` of a vocabulary: a word is encoded as its position, or 1 if it is unknown."""

    places: dict[str, int]
    length: int

    def pieces(self, sentence: Sequence[str]) -> list[str]:
        return list(sentence[: self.length])

    def words_read(self, sentence: Sequence[str]) -> int:
        return min(len(sentence), self.length)

    def words_unknown(self, sentence: Sequence[str]) -> int:
        return sum(word not in self.places for word in sentence)

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        positions = np.zeros((len(sentences), self.length), np.int64)
        for row, sentence in zip(positions, sentences, strict=True):
            kept = sentence[: self.length]
            row[: len(kept)] = [self.places.get(word, 1) for word in kept]
        return positions


def in_vocabulary(
    dataset: Dataset,
    train: np.ndarray,
    words: tuple[str, ...],
    vectors: np.ndarray,
    *,
    trainable: bool,
    said: str,
    unpaid: bool,
) -> Dataset:
    """Returns the texts as positions in a vocabulary, whose first two words are padding and unknown.

    There is a warning if most words of the texts outside the training split are unknown.

    Args:
        dataset: of texts.
        train: positions of the training records.
        words: the vocabulary.
        vectors: (words, dimension) float32; row 0 is set to 0 in place.
        trainable: whether training changes the vectors.
        said: description of the embedding, for the record of the preprocessing.
        unpaid: whether the words were learnt from the texts without a charge of ε.

    Returns:
        The prepared data set.
    """
    assert dataset.written is not None
    places = {word: place for place, word in enumerate(words)}
    new = np.array([places.get(word, 1) for word in dataset.words], np.int64)
    new[0] = 0
    vectors[0] = 0
    missing = _unknown(new[dataset.written])
    others = _unknown(new[np.delete(dataset.written, train, axis=0)])
    strange = (
        f"{others:.0%} of the words of texts that are not for training are unknown to the vocabulary: little that is "
        "learnt holds there; look at how words are told apart, lower smallest_count, or take the embedding encoder"
    )
    return replace(
        dataset,
        x=new[dataset.written],
        high=np.array([len(words)], np.float32),
        tokens=Tokens(words=words, vectors=vectors, trainable=trainable),
        language=Vocabulary(places=places, length=dataset.shape[0]),
        preparation=None,
        preprocessing=f"{dataset.preprocessing}; {said}; {len(words) - 2} known words, {missing:.1%} of the words of "
        "all texts are unknown",
        unpaid_preprocessing=dataset.unpaid_preprocessing or unpaid,
        warnings=(*dataset.warnings, *((strange,) if others > _MOST else ())),
    )


def _unknown(positions: np.ndarray) -> float:
    """Returns the fraction of unknown words in texts, from positions in a vocabulary."""
    return float((positions == 1).sum() / max((positions > 0).sum(), 1))


def sentences_at(dataset: Dataset, rows: np.ndarray) -> list[list[str]]:
    """Returns some texts, each as a list of words.

    Args:
        dataset: of texts.
        rows: positions of the texts.

    Returns:
        The lists of words.
    """
    assert dataset.written is not None
    words = np.array(dataset.words, dtype=object)
    return [words[line[line > 0]].tolist() for line in dataset.written[rows]]


def common_words(dataset: Dataset, rows: np.ndarray, smallest_count: int) -> tuple[str, ...]:
    """Returns the words that occur often enough in some texts, in alphabetical order.

    Args:
        dataset: of texts.
        rows: positions of the texts.
        smallest_count: least number of occurrences.

    Returns:
        The words.
    """
    assert dataset.written is not None
    counts = np.bincount(dataset.written[rows].ravel(), minlength=len(dataset.words))
    counts[0] = 0
    return tuple(dataset.words[place] for place in np.flatnonzero(counts >= smallest_count))


def _lines(path: str) -> tuple[str, ...]:
    try:
        lines: Iterable[str] = Path(path).expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"vocabulary {path!r} cannot be read: {error}; give a UTF-8 file of one word a line") from None
    return tuple(dict.fromkeys(lines))


def _digest(path: str) -> str:
    file = Path(path).expanduser()
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
