"""The word-level attack changes what it may, in the order that hurts, and no more than it needs."""

from collections.abc import Sequence

import numpy as np
import pytest

from assay.attacks.word_substitution import budget, neighbours_of, numpy_margin, substitute, substitute_at_random

VALUE = {"great": 3.0, "fine": 1.0, "okay": 0.2, "plain": 0.0, "poor": -1.0, "film": 0.0, "the": 0.0}
NEAR = {"great": ["fine", "okay"], "fine": ["okay", "poor"], "film": ["plain"], "the": []}


def answer(sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """A bag of words: the second class wins where the values sum to more than 0."""
    total = np.array([sum(VALUE[word] for word in sentence) for sentence in sentences])
    return np.stack([np.zeros_like(total), total - 0.5], axis=1)


def test_it_breaks_a_bag_of_words_with_the_fewest_changes() -> None:
    sentence = ["the", "great", "film", "fine"]
    found = substitute(answer, [sentence], np.array([1]), NEAR, share=1.0)
    # great → okay leaves 0.2 + 1 − 0.5 > 0; fine → poor then tips it: two changes.
    assert found.sentences == [["the", "okay", "film", "poor"]]
    assert found.changed.tolist() == [2]
    assert numpy_margin(answer(found.sentences), np.array([1]))[0] >= 0


def test_the_most_important_word_goes_first() -> None:
    found = substitute(answer, [["fine", "great"]], np.array([1]), NEAR, share=0.5)
    assert found.sentences == [["fine", "okay"]]
    assert found.changed.tolist() == [-1]


def test_never_more_words_than_allowed_and_always_one() -> None:
    assert budget([["a"] * 10, ["a"] * 3], 0.25).tolist() == [2, 1]
    found = substitute(answer, [["great", "great", "great", "fine"]], np.array([1]), NEAR, share=0.5)
    assert sum(a != b for a, b in zip(found.sentences[0], ["great", "great", "great", "fine"], strict=True)) == 2


def test_what_is_wrong_already_is_left_alone() -> None:
    found = substitute(answer, [["poor", "film"]], np.array([1]), NEAR, share=1.0)
    assert (found.sentences, found.changed.tolist()) == ([["poor", "film"]], [0])


def test_a_change_that_does_not_hurt_is_not_made() -> None:
    found = substitute(answer, [["film", "great"]], np.array([1]), {"film": ["great"]}, share=1.0)
    assert found.sentences == [["film", "great"]]


def test_words_without_neighbours_stay() -> None:
    found = substitute(answer, [["the", "the"], ["fine"]], np.array([0, 1]), {"the": []}, share=1.0)
    assert found.changed.tolist() == [-1, -1]


def test_no_number_is_no_robustness() -> None:
    assert numpy_margin(np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([1, 1])).tolist() == [np.inf, -1.0]


def test_neighbours_are_the_nearest_by_cosine_and_never_the_word_itself() -> None:
    vectors = np.array([[1.0, 0], [10, 1], [1, 1], [-1, 0], [0, 0]])
    found = neighbours_of(["a", "b", "c", "d", "pad"], vectors, most=2, similarity=0.5)
    assert found == {"a": ["b", "c"], "b": ["a", "c"], "c": ["b", "a"], "d": [], "pad": []}


def test_random_substitution_keeps_to_the_same_rules() -> None:
    sentence = ["great", "fine", "film", "the"]
    (changed,) = substitute_at_random([sentence], NEAR, share=0.5, generator=np.random.default_rng(0))
    moved = [(a, b) for a, b in zip(sentence, changed, strict=True) if a != b]
    assert len(moved) == 2
    assert all(b in NEAR[a] for a, b in moved)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_larger_budget_never_saves_a_sentence(share: float) -> None:
    sentences = [["great", "fine", "film"], ["fine", "the"], ["fine", "fine", "okay"]]
    y = np.ones(3, int)
    small = substitute(answer, sentences, y, NEAR, share=share).changed >= 0
    large = substitute(answer, sentences, y, NEAR, share=1.0).changed >= 0
    assert (large | ~small).all()
