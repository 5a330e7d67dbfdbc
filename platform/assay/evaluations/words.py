"""Accuracy of a text model when words are replaced."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import seeds
from assay.attacks.word_substitution import budget, neighbours_of, substitute, substitute_at_random
from assay.data.text.embeddings import common_words, sentences_at
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.models.batches import places
from assay.models.front import word_vectors
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable

_MEASURED = "word_substitution_accuracy"


@register("evaluation")
class WordSubstitution(Evaluation):
    """Accuracy under greedy substitution of words by neighbours, at several shares of words that may be changed.

    Neighbours are taken from the vectors of the network itself, or, behind a frozen encoder, from its vectors of single
    words. Words that occur in the same places are neighbours, including antonyms: a changed text need not have the same
    meaning.
    """

    looks_at = "decisions"
    name: Literal["word_substitution"] = "word_substitution"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_MEASURED,
            title="Accuracy under word substitution",
            meaning="Share of texts classified correctly where so many of their words may be changed.",
            better="higher",
            of_sample=True,
            against_accuracy=True,
        ),
    )

    shares: tuple[float, ...] = Field(default=(0.1, 0.2, 0.3), min_length=1)
    """Shares of a text's words that may be changed; at least one word."""
    neighbours: int = Field(default=8, ge=1)
    similarity: float = Field(default=0.5, ge=-1, le=1)
    """Cosine that a neighbour must reach."""
    fewest: float = Field(default=0.1, ge=0, le=1)
    """Share of the words that must have a neighbour; otherwise the result is abstained from."""
    smallest_count: int = Field(default=3, ge=1)
    """Number of times that a word must occur in the training split to replace another."""
    records: int | None = Field(default=200, ge=10)
    """Test records that are attacked, stratified; None for all."""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        dataset = subject.dataset
        if dataset.language is None or dataset.written is None:
            why = f"these records are {dataset.modality}, not words"
            return [not_applicable(_MEASURED, why, reason="other_kind_of_records")]
        rows = self.sample(subject)
        y, sentences = dataset.y[rows], sentences_at(dataset, rows)
        near = self._near(subject, sentences)
        open_ = float(np.mean([bool(near.get(word)) for sentence in sentences for word in sentence]))
        about = {
            "units": "share of a text's words",
            "neighbours": self.neighbours,
            "similarity": self.similarity,
            "words_with_neighbours": open_,
        }
        if open_ < self.fewest:
            why = (
                f"only {open_:.1%} of the words have a neighbour at similarity {self.similarity:g}, at least "
                f"{self.fewest:.0%} must: there is next to nothing to attack with; lower similarity, or use vectors "
                "that were trained, such as word2vec's"
            )
            abstained: dict[str, Any] = {"status": "abstained", "reason": "inconclusive", "warnings": (why,)}
            return [Measurement(name=_MEASURED, n=len(rows), conditions=about, **abstained)]
        most = max(self.shares)
        attacked = substitute(lambda asked: _answer(subject, asked), sentences, y, near, share=most)
        _assert_allowed(sentences, attacked.sentences, near, most)
        # Judged again, not believed: a text counts as fooled if the model still errs on it.
        confirmed = subject.wrong(_answer(subject, attacked.sentences), y)
        found: list[Finding] = []
        beaten = 0.0
        for allowed in sorted({*self.shares}):
            fooled = confirmed & (attacked.changed >= 0) & (attacked.changed <= budget(sentences, allowed))
            generator = seeds.stream(subject.seed, "random words", str(allowed))
            random = substitute_at_random(sentences, near, share=allowed, generator=generator)
            confused = subject.wrong(_answer(subject, random), y)
            beaten = max(beaten, float((~fooled & confused).mean()))
            for attack, hits in (("greedy", ~fooled), ("random", ~confused)):
                conditions = {"attack": attack, "share_of_words": allowed, **about}
                found.append(share(_MEASURED, hits, subject.clusters(rows), **conditions))
        return [*found, _random_loses(beaten)]

    def _near(self, subject: Subject, sentences: list[list[str]]) -> dict[str, list[str]]:
        """Returns neighbours of the words of some sentences, among the words of the training split."""
        dataset = subject.dataset
        held = subject.split.train if len(subject.split.train) else subject.split.test
        known = set(common_words(dataset, held, self.smallest_count))
        asked = sorted(known | {word for sentence in sentences for word in sentence})
        table = word_vectors(subject.model)
        if table is not None:
            assert dataset.tokens is not None
            at = {word: place for place, word in enumerate(dataset.tokens.words)}
            asked = [word for word in asked if word in at]
            vectors = table.detach().cpu().numpy()[[at[word] for word in asked]]
        else:
            assert dataset.language is not None
            alone = [[word] for word in asked]
            shape = dataset.form.network_shape
            vectors = np.concatenate([dataset.language.encode(alone[p]).sum(1) for p in places(len(alone), shape)])
        near = neighbours_of(asked, vectors, most=4 * self.neighbours, similarity=self.similarity)
        return {word: [one for one in others if one in known][: self.neighbours] for word, others in near.items()}


def _assert_allowed(
    before: list[list[str]], after: list[list[str]], near: dict[str, list[str]], allowed: float
) -> None:
    """Asserts that no text was changed in more places, or to other words, than allowed."""
    for old, new, most in zip(before, after, budget(before, allowed), strict=True):
        moved = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert len(moved) <= most
        assert all(b in near[a] for a, b in moved)


def _answer(subject: Subject, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    language = subject.dataset.language
    assert language is not None
    shape = subject.dataset.form.network_shape
    return subject.answers(language.encode(sentences[place]) for place in places(len(sentences), shape))


def _random_loses(beaten: float) -> Check:
    return Check(
        rule="random_words_against_greedy",
        concerns=_MEASURED,
        verdict="warn" if beaten > 0.05 else "pass",
        figure=beaten,
        message=f"random substitution fools {beaten:.1%} of the texts that the greedy one could not (limit 5 %): the "
        "greedy attack is too weak there",
    )
