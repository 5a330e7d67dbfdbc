"""An attack on the text itself: greedy substitution of words among their neighbours in an embedding.

After Jin et al. 2020 (arXiv:1907.11932) and Alzantot et al. 2018 (arXiv:1804.07998), in the order of importance of the
words, without their part-of-speech and sentence-similarity filters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Sentence = Sequence[str]
SentenceLogits = Callable[[Sequence[Sentence]], np.ndarray]
"""From sentences to (n, classes) logits."""


@dataclass(frozen=True, kw_only=True)
class Substituted:
    """What became of each sentence."""

    sentences: list[list[str]]
    """As they were last; of a fooled one, with as few words changed as the attack needed."""
    changed: np.ndarray
    """(n,) words changed when the answer first was wrong, 0 where it was wrong from the start; -1 if it never was."""


def neighbours_of(words: Sequence[str], vectors: np.ndarray, *, most: int, similarity: float) -> dict[str, list[str]]:
    """For each word, the nearest others by the cosine of their vectors, nearest first.

    Args:
        vectors: (words, dimension).
        most: neighbours of a word at most.
        similarity: cosine that a neighbour must reach.
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
    """(n,) words of each sentence that may be changed: a share of them, at least one."""
    return np.array([max(1, int(share * len(sentence))) for sentence in sentences])


def substitute(
    answer: SentenceLogits,
    sentences: Sequence[Sentence],
    y: np.ndarray,
    neighbours: Mapping[str, list[str]],
    *,
    share: float,
) -> Substituted:
    """Change words one by one, the most important first, each to the neighbour that hurts most, until the answer errs.

    Args:
        y: (n,) true classes.
        neighbours: words that may stand in for a word.
        share: of a sentence's words, how many may be changed; at least one.
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
            own = [number for number, (owner, *_) in enumerate(tries) if owner == i]
            best = max(own, key=lambda number: worse[number])
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
    """As many words of each sentence changed to any neighbour: what the greedy attack must beat to be believed."""
    found = []
    for sentence in sentences:
        now = list(sentence)
        places = [place for place, word in enumerate(now) if neighbours.get(word)]
        for place in generator.permutation(places)[: budget([now], share)[0]]:
            now[place] = str(generator.choice(neighbours[now[place]]))
        found.append(now)
    return found


def numpy_margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Best wrong logit minus the true one, (n,): at least 0 where the answer is wrong, infinite where it is NaN."""
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
    """Places of the words that have neighbours, first the one without which the answer suffers most."""
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
