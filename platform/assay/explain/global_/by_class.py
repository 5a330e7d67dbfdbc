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
    """Of Welch's test that there is no difference; NaN where it cannot be computed."""
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
    The test is Welch's, on the means of clusters, with Holm's correction over features and classes.

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
        samples = [_means(strengths[side], None if clusters is None else clusters[side]) for side in sides]
        found += [(feature, int(one), *_welch(*(s[:, feature] for s in samples))) for feature in range(values.shape[1])]
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


def _means(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    """Returns the mean of each cluster, (clusters, features)."""
    if clusters is None:
        return values
    known, place = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(known), values.shape[1]))
    np.add.at(sums, place, values)
    return sums / np.bincount(place)[:, None]


def _welch(one: np.ndarray, other: np.ndarray) -> tuple[Interval, float]:
    """Returns the difference of two means with its 95 % interval, and the p-value of Welch's test."""
    difference = float(one.mean() - other.mean())
    parts = [side.var(ddof=1) / len(side) if len(side) > 1 else np.nan for side in (one, other)]
    error = float(np.sqrt(sum(parts)))
    if not np.isfinite(error):
        return Interval(value=difference, low=np.nan, high=np.nan), np.nan
    if error == 0:
        return Interval(value=difference, low=difference, high=difference), 0.0 if difference else 1.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (one, other), strict=True))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(difference) / error, freedom))
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
