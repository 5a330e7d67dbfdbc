"""Attack on text: greedy substitution of words by their neighbours in an embedding.

After Jin et al. 2020 (arXiv:1907.11932) and Alzantot et al. 2018 (arXiv:1804.07998): words are replaced in the order of
their importance. The part-of-speech and sentence-similarity filters of these papers are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Sentence = Sequence[str]
SentenceLogits = Callable[[Sequence[Sentence]], np.ndarray]
"""From sentences to (n, classes) logits."""


@dataclass(frozen=True, kw_only=True)
class Substituted:
    """Result of the attack for each sentence."""

    sentences: list[list[str]]
    """The sentences after the attack; it stops at the first change that fools the model."""
    changed: np.ndarray
    """(n,) number of changed words at the first wrong answer, 0 where it was wrong from the start, -1 if never."""


def neighbours_of(words: Sequence[str], vectors: np.ndarray, *, most: int, similarity: float) -> dict[str, list[str]]:
    """Returns the nearest other words of each word by cosine similarity, nearest first.

    Args:
        words: the vocabulary.
        vectors: (words, dimension).
        most: greatest number of neighbours of a word.
        similarity: least cosine of a neighbour.

    Returns:
        Neighbours by word.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    found = {}
    for start in range(0, len(words), 1024):
        near = unit[start : start + 1024] @ unit.T
        near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
        best = np.argsort(-near, axis=1, kind="stable")[:, :most]
        for row, (word, places) in enumerate(zip(words[start : start + 1024], best, strict=True)):
            found[word] = [words[place] for place in places if near[row, place] >= similarity]
    return found


def budget(sentences: Sequence[Sentence], share: float) -> np.ndarray:
    """Returns the number of words of each sentence that may be changed: a share of them, at least one.

    Args:
        sentences: the sentences.
        share: fraction of the words.

    Returns:
        (n,) numbers of words.
    """
    return np.array([max(1, int(share * len(sentence))) for sentence in sentences])


def substitute(
    answer: SentenceLogits,
    sentences: Sequence[Sentence],
    y: np.ndarray,
    neighbours: Mapping[str, list[str]],
    *,
    share: float,
) -> Substituted:
    """Changes words one by one, the most important first, each to the worst neighbour, until the model errs.

    Args:
        answer: from sentences to (n, classes) logits.
        sentences: the sentences.
        y: (n,) true classes.
        neighbours: possible replacements of each word.
        share: fraction of a sentence's words that may be changed; at least one word.

    Returns:
        The changed sentences, and the number of changes.
    """
    now = [list(sentence) for sentence in sentences]
    margins = numpy_margin(answer(now), y)
    changed = np.where(margins >= 0, 0, -1)
    orders = _by_importance(answer, now, y, neighbours, np.flatnonzero(changed < 0))
    budgets = budget(sentences, share)
    spent = np.zeros(len(now), int)
    for turn in range(max((len(order) for order in orders.values()), default=0)):
        open_ = [i for i, order in orders.items() if changed[i] < 0 and turn < len(order) and spent[i] < budgets[i]]
        tries = [(i, orders[i][turn], word) for i in open_ for word in neighbours[now[i][orders[i][turn]]]]
        if not tries:
            continue
        worse = numpy_margin(
            answer([_with(now[i], place, word) for i, place, word in tries]), y[[i for i, *_ in tries]]
        )
        for i in open_:
            candidates = [number for number, (sentence, *_) in enumerate(tries) if sentence == i]
            best = max(candidates, key=lambda number: worse[number])
            if worse[best] > margins[i]:
                now[i] = _with(now[i], tries[best][1], tries[best][2])
                margins[i] = worse[best]
                spent[i] += 1
                if margins[i] >= 0:
                    changed[i] = spent[i]
    return Substituted(sentences=now, changed=changed)


def substitute_at_random(
    sentences: Sequence[Sentence], neighbours: Mapping[str, list[str]], *, share: float, generator: np.random.Generator
) -> list[list[str]]:
    """Changes as many words of each sentence to random neighbours, as a control for the greedy attack.

    Args:
        sentences: the sentences.
        neighbours: possible replacements of each word.
        share: fraction of a sentence's words that are changed; at least one word.
        generator: of the random choices.

    Returns:
        The changed sentences.
    """
    found = []
    for sentence in sentences:
        now = list(sentence)
        places = [place for place, word in enumerate(now) if neighbours.get(word)]
        for place in generator.permutation(places)[: budget([now], share)[0]]:
            now[place] = str(generator.choice(neighbours[now[place]]))
        found.append(now)
    return found


def numpy_margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the best wrong logit minus the true one: at least 0 where the answer is wrong, infinite where it is not
    finite.

    Args:
        logits: (n, classes).
        y: (n,) true classes.

    Returns:
        (n,) margins, in logits.
    """
    true = logits[np.arange(len(y)), y]
    others = logits.copy()
    others[np.arange(len(y)), y] = -np.inf
    return np.where(np.isfinite(logits).all(1), others.max(1) - true, np.inf)


def _by_importance(
    answer: SentenceLogits,
    sentences: list[list[str]],
    y: np.ndarray,
    neighbours: Mapping[str, list[str]],
    rows: np.ndarray,
) -> dict[int, list[int]]:
    """Returns the positions of words that have neighbours, by sentence; first the word whose removal hurts most."""
    places = [(int(i), place) for i in rows for place, word in enumerate(sentences[i]) if neighbours.get(word)]
    if not places:
        return {}
    without = [sentences[i][:place] + sentences[i][place + 1 :] or sentences[i] for i, place in places]
    loss = numpy_margin(answer(without), y[[i for i, _ in places]])
    orders: dict[int, list[int]] = {}
    for number in np.argsort(-loss, kind="stable"):
        i, place = places[number]
        orders.setdefault(i, []).append(place)
    return orders


def _with(sentence: list[str], place: int, word: str) -> list[str]:
    return [*sentence[:place], word, *sentence[place + 1 :]]
