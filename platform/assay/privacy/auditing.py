"""From guesses about canaries to a lower bound on ε (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846).

Each of m canaries was put among the training records or not, by a fair coin of its own, and the model was trained once.
Somebody who sees what training released guesses, for some of them, how the coin fell. If training is (ε, δ)-private
under adding or removing one record, then of r guesses no more are right than tosses of r coins that fall right with
probability e^ε / (1 + e^ε), up to a term in δ. So many right guesses refute a small ε.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import binom, t

_PRECISION = 1e-5
"""Precision of a bound, in ε."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the guesses of one audit refute."""

    epsilon: float
    """Lower bound on ε, at least 0."""
    guesses: int
    """Canaries that were guessed; the others were left open."""
    correct: int
    most: float
    """The bound if every canary had been guessed, and every guess were right: no audit of this size finds more."""


def audited(
    scores: np.ndarray,
    inside: np.ndarray,
    *,
    shares: Sequence[float],
    delta: float,
    confidence: float,
    audits: int = 1,
) -> Audited:
    """The greatest lower bound over the numbers of guesses that were laid down, each at its part of the confidence.

    Half of the guesses go to the highest scores ("in") and half to the lowest ("out").

    Args:
        scores: (m,) the higher, the likelier was the canary in. Chosen without a look at ``inside``.
        inside: (m,) bool, independent fair coins.
        shares: of the canaries, how many are guessed: every one of them is tried, and laid down before a look.
        delta: of the claim.
        confidence: that all bounds of all audits hold together.
        audits: that are run, on whatever; the confidence is shared among them (Bonferroni).
    """
    order, m = np.argsort(scores, kind="stable"), len(scores)
    significance = (1 - confidence) / (audits * len(shares))
    found = []
    for share in shares:
        half = max(1, min(m // 2, round(m * share / 2)))
        correct = int(inside[order[-half:]].sum() + (~inside[order[:half]]).sum())
        epsilon = least_epsilon(m, 2 * half, correct, delta=delta, significance=significance)
        found.append((epsilon, 2 * half, correct))
    epsilon, guesses, correct = max(found)
    everyone = max(guessed for _, guessed, _ in found)
    most = least_epsilon(m, everyone, everyone, delta=delta, significance=significance)
    return Audited(epsilon=epsilon, guesses=guesses, correct=correct, most=most)


def p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """How probable so many right guesses are, at most, if training is (ε, δ)-private: their Corollary 5.4.

    With W binomial, of ``guesses`` tosses, it is P[W ≥ v] + 2 m δ · max over i of P[v - i ≤ W < v] / i.
    """
    chance = 1 / (1 + math.exp(-epsilon))
    right = float(binom.sf(correct - 1, guesses, chance))
    if not delta or not correct:
        return min(1.0, right)
    below = np.arange(1, correct + 1)
    nearly = float((np.cumsum(binom.pmf(correct - below, guesses, chance)) / below).max())
    return min(1.0, right + 2 * canaries * delta * nearly)


@lru_cache(maxsize=1024)
def least_epsilon(canaries: int, guesses: int, correct: int, *, delta: float, significance: float) -> float:
    """The greatest ε that so many right guesses refute, 0 if none: training needs at least that.

    Args:
        significance: probability at which a true ε is refuted, at most.
    """

    def refuted(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta) < significance

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far a canary moved what training released, as a share of what it should."""

    share: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of that error: with few canaries it is itself uncertain."""

    def margin(self, significance: float) -> float:
        """Half-width of the two-sided confidence interval of ``share`` (Welch's t)."""
        return float(t.isf(significance / 2, self.freedom)) * self.error if self.error else 0.0


def moved(sums: np.ndarray, inside: np.ndarray, *, expected: float) -> Moved:
    """By the difference of the means of those that are in and those that are out.

    Those that are in may scatter more than the others: it is by chance how often each was drawn. So nothing is assumed
    of their variances, and the error has the degrees of freedom of Welch 1947, by Satterthwaite's approximation.

    Args:
        sums: (m,) all that was released of the direction of each canary.
        inside: (m,) bool, at least two of each.
        expected: what a canary that is in should add to its sum.
    """
    within, without = sums[inside], sums[~inside]
    own, others = within.var(ddof=1) / len(within), without.var(ddof=1) / len(without)
    spread = own**2 / (len(within) - 1) + others**2 / (len(without) - 1)
    return Moved(
        share=float(within.mean() - without.mean()) / expected,
        error=math.sqrt(own + others) / expected,
        freedom=float((own + others) ** 2 / spread) if spread else math.inf,
    )


def canaries_needed(epsilon: float, *, significance: float) -> int:
    """Fewest canaries that, all guessed rightly, refute ε at δ = 0."""
    return math.ceil(math.log(1 / significance) / math.log1p(math.exp(-epsilon))) + 1


def log_likelihood_ratio(
    released: np.ndarray, *, signal: float | np.ndarray, noise_multiplier: float, sample_rate: float
) -> np.ndarray:
    """How much likelier one step's noisy sums are if a canary is in than if it is out; the best score there is.

    Args:
        released: (m,) what was released of the direction of each canary, in clipping norms: noise, and ``signal`` more
            where the canary was drawn.
        signal: length of what a canary adds, in clipping norms; of all, or of each (m,).
        noise_multiplier: deviation of the noise, in clipping norms.
        sample_rate: probability that a canary which is in is drawn.
    """
    drawn = (2 * signal * released - signal**2) / (2 * noise_multiplier**2)
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log1p(-sample_rate), math.log(sample_rate) + drawn))
