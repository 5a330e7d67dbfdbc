"""From guesses about canaries to a lower bound on ε (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846).

Each of m canaries was put among the training records, or left out, by an independent fair coin, and the model was
trained once. An auditor who sees what training released guesses, for some canaries, how the coin fell. If training is
(ε, δ)-private under adding or removing one record, the number of correct guesses among r is at most that of r coins
that are correct with probability e^ε / (1 + e^ε), up to a term in δ. So many correct guesses refute a small ε.
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
    """Result of an audit: the ε that its guesses refute."""

    epsilon: float
    """Lower bound on ε, at least 0."""
    guesses: int
    """Number of canaries that were guessed; the others were left open."""
    correct: int
    most: float
    """The bound if every canary had been guessed correctly: no audit of this size can find more."""


def audited(
    scores: np.ndarray,
    inside: np.ndarray,
    *,
    shares: Sequence[float],
    delta: float,
    confidence: float,
    audits: int = 1,
) -> Audited:
    """Returns the greatest lower bound on ε over several numbers of guesses, each at its part of the significance.

    Half of the guesses go to the highest scores ("in") and half to the lowest ("out").

    Args:
        scores: (m,) higher where the canary was more probably in. Computed without using ``inside``.
        inside: (m,) bool, independent fair coins.
        shares: fractions of the canaries that are guessed; all are tried, and they are fixed in advance.
        delta: of the claim.
        confidence: probability that all bounds of all audits hold together.
        audits: number of audits among which the significance is divided (Bonferroni).

    Returns:
        The bound, with the guesses that gave it.
    """
    order, m = np.argsort(scores, kind="stable"), len(scores)
    significance = (1 - confidence) / (audits * len(shares))
    bounds = []
    for share in shares:
        half = max(1, min(m // 2, round(m * share / 2)))
        correct = int(inside[order[-half:]].sum() + (~inside[order[:half]]).sum())
        epsilon = least_epsilon(m, 2 * half, correct, delta=delta, significance=significance)
        bounds.append((epsilon, 2 * half, correct))
    epsilon, guesses, correct = max(bounds)
    everyone = max(guessed for _, guessed, _ in bounds)
    most = least_epsilon(m, everyone, everyone, delta=delta, significance=significance)
    return Audited(epsilon=epsilon, guesses=guesses, correct=correct, most=most)


def p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """Returns a bound on the probability of so many correct guesses under (ε, δ)-privacy (Corollary 5.4).

    With W binomial, of ``guesses`` tosses, it is P[W ≥ v] + 2 m δ · max over i of P[v - i ≤ W < v] / i.

    Args:
        canaries: m.
        guesses: number of guesses.
        correct: v, how many of them are correct.
        epsilon: ε that is tested.
        delta: δ of the claim.

    Returns:
        The p-value.
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
    """Returns the greatest ε that so many correct guesses refute; 0 if none. The true ε is at least this.

    Args:
        canaries: number of canaries.
        guesses: number of guesses.
        correct: how many of them are correct.
        delta: of the claim.
        significance: greatest probability with which a true ε is refuted.

    Returns:
        The lower bound on ε.
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
    """Effect of a canary on the released gradients, relative to the expected effect."""

    share: float
    error: float
    """Standard error of ``share``."""
    freedom: float
    """Degrees of freedom of the standard error, which is itself uncertain with few canaries."""

    def margin(self, significance: float) -> float:
        """Returns the half-width of the two-sided confidence interval of ``share`` (Welch's t).

        Args:
            significance: probability that the interval misses the true share.

        Returns:
            The half-width.
        """
        return float(t.isf(significance / 2, self.freedom)) * self.error if self.error else 0.0


def moved(sums: np.ndarray, inside: np.ndarray, *, expected: float) -> Moved:
    """Returns the effect of canaries from the difference of means between those that are in and those that are out.

    Sums of canaries that are in may vary more than the others, because the number of draws is random. So no equality of
    variances is assumed; the error has Welch's degrees of freedom (1947), by Satterthwaite's approximation.

    Args:
        sums: (m,) sum of the released values along each canary's direction.
        inside: (m,) bool, at least two of each.
        expected: contribution to the sum that a canary which is in should make.

    Returns:
        The effect as a share of ``expected``, with its standard error.
    """
    within, without = sums[inside], sums[~inside]
    variance_in, variance_out = within.var(ddof=1) / len(within), without.var(ddof=1) / len(without)
    spread = variance_in**2 / (len(within) - 1) + variance_out**2 / (len(without) - 1)
    return Moved(
        share=float(within.mean() - without.mean()) / expected,
        error=math.sqrt(variance_in + variance_out) / expected,
        freedom=float((variance_in + variance_out) ** 2 / spread) if spread else math.inf,
    )


def canaries_needed(epsilon: float, *, significance: float) -> int:
    """Returns the least number of canaries that, all guessed correctly, refute ε at δ = 0.

    Args:
        epsilon: ε to be refuted.
        significance: of the test.

    Returns:
        The number of canaries.
    """
    return math.ceil(math.log(1 / significance) / math.log1p(math.exp(-epsilon))) + 1


def log_likelihood_ratio(
    released: np.ndarray, *, signal: float | np.ndarray, noise_multiplier: float, sample_rate: float
) -> np.ndarray:
    """Returns the log-likelihood ratio of one step's noisy sums between a canary that is in and one that is out.

    By Neyman and Pearson no score separates the two better.

    Args:
        released: (m,) released values along each canary's direction, in clipping norms: noise, and ``signal`` more
            where the canary was drawn.
        signal: length of a canary's contribution, in clipping norms; one number, or (m,).
        noise_multiplier: standard deviation of the noise, in clipping norms.
        sample_rate: probability that a canary which is in is drawn.

    Returns:
        (m,) ratios.
    """
    drawn = (2 * signal * released - signal**2) / (2 * noise_multiplier**2)
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log1p(-sample_rate), math.log(sample_rate) + drawn))
