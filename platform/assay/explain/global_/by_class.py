"""Mean attributions of features by predicted class, and which features differ between classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from assay.intervals import LEVEL, Interval, bootstrap_curve
from assay.statistics import holm

FEWEST = 2
"""Records below which a class has no interval."""


@dataclass(frozen=True, kw_only=True)
class ClassFeature:
    """Attributions of one feature over the records of one predicted class."""

    feature: int
    target: int
    """The predicted class, which the attributions explain."""
    strength: Interval
    """Mean |attribution|: how much the feature moves the answer, in either direction."""
    direction: Interval
    """Mean attribution: near 0 where the feature speaks for the class in some records and against it in others."""
    n: int
    """Records of the class."""


@dataclass(frozen=True, kw_only=True)
class ClassContrast:
    """Difference of the mean |attribution| of one feature between one class and the others."""

    feature: int
    target: int
    difference: Interval
    p: float
    """Of the test that there is no difference; NaN where it cannot be computed."""
    p_holm: float
    """The same with Holm's correction over all features and classes that are compared."""


def by_class(
    values: np.ndarray,
    target: np.ndarray,
    *,
    generator: np.random.Generator,
    draws: int = 200,
    clusters: np.ndarray | None = None,
) -> list[ClassFeature]:
    """Returns the mean |attribution| and the mean attribution of each feature for each predicted class.

    Intervals are those of a bootstrap over the records of the class; whole clusters are drawn. Classes with fewer than
    two records are left out.

    Args:
        values: (n, features) attributions to the predicted class.
        target: (n,) the predicted class of each record.
        generator: of the random draws.
        draws: number of bootstrap samples.
        clusters: (n,) records that count as one, such as those of a patient; None where each counts by itself.

    Returns:
        One entry for each class and feature, class by class.
    """
    found: list[ClassFeature] = []
    features = values.shape[1]
    for one in np.unique(target):
        rows = np.flatnonzero(target == one)
        if len(rows) < FEWEST:
            continue
        own = np.concatenate([np.abs(values[rows]), values[rows]], axis=1).astype(np.float64)
        each = bootstrap_curve(
            lambda chosen, own=own: own[chosen].mean(0),  # type: ignore[misc]
            len(rows),
            generator=generator,
            draws=draws,
            groups=None if clusters is None else clusters[rows],
        )
        found += [
            ClassFeature(
                feature=feature,
                target=int(one),
                strength=each[feature],
                direction=each[features + feature],
                n=len(rows),
            )
            for feature in range(features)
        ]
    return found


def contrasts(values: np.ndarray, target: np.ndarray, *, clusters: np.ndarray | None = None) -> list[ClassContrast]:
    """Compares the mean |attribution| of each feature between classes: which features matter for one class alone?

    With two predicted classes the greater one is compared with the other; with more, each with all others together.
    The test is Student's, with Holm's correction over features and classes. Its variance allows for sides of different
    variance, and is that of sums over clusters: a patient with records in both classes counts once.

    Args:
        values: (n, features) attributions to the predicted class.
        target: (n,) the predicted class of each record.
        clusters: (n,) records that count as one.

    Returns:
        One entry for each comparison and feature; empty where fewer than two classes have two records.
    """
    strengths = np.abs(values).astype(np.float64)
    classes = [one for one in np.unique(target) if (target == one).sum() >= FEWEST]
    if len(classes) < 2:
        return []
    compared = classes[-1:] if len(classes) == 2 else classes
    found: list[tuple[int, int, Interval, float]] = []
    for one in compared:
        sides = [target == one, np.isin(target, classes) & (target != one)]
        counted = np.arange(len(target)) if clusters is None else clusters
        for feature in range(values.shape[1]):
            found.append((feature, int(one), *_difference(strengths[:, feature], sides, counted)))
    corrected = holm([p for *_, p in found])
    return [
        ClassContrast(feature=feature, target=one, difference=difference, p=p, p_holm=p_holm)
        for (feature, one, difference, p), p_holm in zip(found, corrected, strict=True)
    ]


def strongest(values: np.ndarray, most: int) -> list[int]:
    """Returns the features with the greatest mean |attribution| over all records, the greatest first.

    Args:
        values: (n, features) attributions.
        most: greatest number of features.

    Returns:
        Their positions; equal ones in their order.
    """
    return np.argsort(-np.abs(values).mean(0), kind="stable")[:most].tolist()


def _difference(values: np.ndarray, sides: list[np.ndarray], clusters: np.ndarray) -> tuple[Interval, float]:
    """Returns the difference of the means of two sides of records, with the variance of sums over clusters.

    Each record moves the difference by its distance from the mean of its side, divided by the size of the side; a
    cluster moves it by the sum (linearisation, as for surveys).
    """
    means = [float(values[side].mean()) for side in sides]
    moved = np.zeros(len(values))
    for side, mean, sign in zip(sides, means, (1, -1), strict=True):
        moved[side] = sign * (values[side] - mean) / side.sum()
    some = sides[0] | sides[1]
    _, place = np.unique(clusters[some], return_inverse=True)
    sums, difference = np.bincount(place, moved[some]), means[0] - means[1]
    count = len(sums)
    if count < FEWEST:
        return Interval(value=difference, low=np.nan, high=np.nan), np.nan
    error = float(np.sqrt(count / (count - 1) * (sums**2).sum()))
    if error == 0:
        return Interval(value=difference, low=difference, high=difference), 0.0 if difference else 1.0
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(difference) / error, count - 1))
    return Interval(value=difference, low=difference - reach, high=difference + reach), p


@dataclass(frozen=True, kw_only=True)
class ClassWord:
    """Attributions of one word over the texts of one predicted class."""

    word: str
    target: int
    value: Interval
    """Mean attribution over the texts that hold the word; a text counts once, by its mean."""
    n: int
    """Texts that hold it."""


def by_word(
    values: np.ndarray,
    words: Sequence[Sequence[str]],
    target: np.ndarray,
    *,
    generator: np.random.Generator,
    clusters: np.ndarray | None = None,
    most: int = 10,
    fewest: int = 5,
    draws: int = 200,
) -> list[ClassWord]:
    """Returns the words with the greatest mean attribution to each predicted class.

    Args:
        values: (n, length) attribution of the word at each position.
        words: of each text, one for each position that is no padding, from the first.
        target: (n,) the predicted class of each text.
        generator: of the random draws.
        clusters: (n,) texts that count as one.
        most: words of each class.
        fewest: texts (or clusters of them) in which a word must stand: one text's own words, such as names, are never
            told.
        draws: number of bootstrap samples.

    Returns:
        The words, class by class, the greatest mean first.
    """
    found: list[ClassWord] = []
    for one in np.unique(target):
        held: dict[str, dict[int, list[float]]] = {}
        for row in np.flatnonzero(target == one).tolist():
            for place, word in enumerate(words[row]):
                held.setdefault(word, {}).setdefault(row, []).append(float(values[row, place]))
        means = {
            word: (np.array(list(by_text)), np.array([np.mean(all_of_it) for all_of_it in by_text.values()]))
            for word, by_text in held.items()
        }
        known = {
            word: pair
            for word, pair in means.items()
            if len(pair[0] if clusters is None else np.unique(clusters[pair[0]])) >= fewest
        }
        first = sorted(known, key=lambda word: (-float(known[word][1].mean()), word))[:most]
        for word in first:
            rows, own = known[word]
            (interval,) = bootstrap_curve(
                lambda chosen, own=own: own[chosen].mean(keepdims=True),  # type: ignore[misc]
                len(own),
                generator=generator,
                draws=draws,
                groups=None if clusters is None else clusters[rows],
            )
            found.append(ClassWord(word=word, target=int(one), value=interval, n=len(own)))
    return found
