"""Likelihood ratio of a model's answers with and without a record among its training records, by shadow models.

Few shadows give little information about a single record, and much about all records together. So the estimates for one
record are shrunk towards those of similar records: its variances (empirical Bayes, Smyth 2004), and how much training
on it changes its confidence. The remaining uncertainty widens the density, which is then a t density.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

Mode = Literal["online", "offline"]
"""Whether the attacker has models that were trained on a record, or only models that were not."""
_LEAST_VARIANCE = 1e-12
_NEIGHBOURS = 0.1
"""Share of the records that estimate what is usual near a record; at least ``_FEWEST_NEIGHBOURS`` of them."""
_FEWEST_NEIGHBOURS = 50
_NORMAL = 1e6
"""Degrees of freedom at which a t density is treated as normal."""


@dataclass(frozen=True, kw_only=True)
class _Shadows:
    """Estimates for each record from the shadows of one kind (in, or out)."""

    mean: np.ndarray
    """(n,)"""
    variance: np.ndarray
    """(n,) of one model's answer."""
    count: np.ndarray
    """(n,) shadows."""
    freedom: float
    """Degrees of freedom behind a variance."""


def likelihood_ratio(
    own: np.ndarray, shadows: np.ndarray, inside: np.ndarray, *, mode: Mode, per_record: bool | None = None
) -> np.ndarray:
    """Returns the log likelihood ratio of in to out (online), or the deviation from shadows that are out (offline).

    By default with shrunken estimates, as described above. With ``per_record`` it is the formula of Carlini et al. 2022
    (arXiv:2112.03570): two normal densities with plain estimates.

    Args:
        own: (n,) confidence of the target.
        shadows: (shadows, n) of the shadows.
        inside: (shadows, n) bool, which shadow was trained on which record.
        mode: of the attacker.
        per_record: the published attack, with a variance of each record or of all together; None for shrunken
            estimates.

    Returns:
        (n,) scores.
    """
    if per_record is not None:
        return _published(own, shadows, inside, mode=mode, per_record=per_record)
    out = _estimated(shadows, ~inside)
    if mode == "offline":
        # One-sided: how improbable so much confidence is in a model that did not see the record.
        spread = np.sqrt(out.variance * (1 + 1 / out.count))
        return _as_normal((own - out.mean) / spread, out.freedom)
    within = _estimated(shadows, inside)
    (mean_in, spread_in), (mean_out, spread_out) = _drawn_together(within, out)
    return np.asarray(
        _log_density((own - mean_in) / spread_in, within.freedom)
        - np.log(spread_in)
        - _log_density((own - mean_out) / spread_out, out.freedom)
        + np.log(spread_out)
    )


def _published(own: np.ndarray, shadows: np.ndarray, inside: np.ndarray, *, mode: Mode, per_record: bool) -> np.ndarray:
    mean_out, variance_out = _normal(shadows, ~inside, per_record=per_record)
    if mode == "offline":
        return np.asarray((own - mean_out) / np.sqrt(variance_out))
    mean_in, variance_in = _normal(shadows, inside, per_record=per_record)
    far_in, far_out = (own - mean_in) ** 2 / variance_in, (own - mean_out) ** 2 / variance_out
    return np.asarray((far_out - far_in + np.log(variance_out) - np.log(variance_in)) / 2)


def _normal(shadows: np.ndarray, chosen: np.ndarray, *, per_record: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean, (n,), and variance, (n,) or of all records, of the chosen shadows' confidence in each record."""
    count = chosen.sum(0)
    mean, squares = _sums(shadows, chosen)
    variance = squares / (count - 1) if per_record else np.asarray(squares.sum() / (count - 1).sum())
    # Shadows that all say the same would make any difference infinitely telling.
    return mean, np.maximum(variance, _LEAST_VARIANCE)


def _sums(shadows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns means, and sums of squares around them, of the chosen shadows, (n,) each."""
    mean = np.where(chosen, shadows, 0.0).sum(0) / chosen.sum(0)
    return mean, (np.where(chosen, shadows - mean, 0.0) ** 2).sum(0)


def _estimated(shadows: np.ndarray, chosen: np.ndarray) -> _Shadows:
    """Shrinks variances towards those of records with a similar mean, as far as these agree with each other."""
    mean, squares = _sums(shadows, chosen)
    count = chosen.sum(0)
    freedom = float(count.mean() - 1)
    variance = np.maximum(squares / (count - 1), _LEAST_VARIANCE)
    # The logarithm of a variance of d degrees of freedom lies digamma(d/2) - log(d/2) off, and varies by trigamma(d/2).
    level = np.log(variance) - special.digamma(freedom / 2) + np.log(freedom / 2)
    usual = _smoothed(mean, level)
    excess = float(np.mean((level - usual) ** 2)) * _unbiased(len(level)) - float(special.polygamma(1, freedom / 2))
    prior = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
    if not np.isfinite(prior):
        return _Shadows(mean=mean, variance=np.exp(usual), count=count, freedom=_NORMAL)
    scale = np.exp(usual + special.digamma(prior / 2) - np.log(prior / 2))
    shrunk = (prior * scale + freedom * variance) / (prior + freedom)
    return _Shadows(mean=mean, variance=shrunk, count=count, freedom=prior + freedom)


def _drawn_together(
    within: _Shadows, out: _Shadows
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns mean and spread of the next model's answer, in and out, with a shrunken gap between them.

    The two means are normal given the shadows, with a normal prior on their difference and none on their level; the
    posterior is that of a linear model with two unknowns.
    """
    gap = within.mean - out.mean
    error = within.variance / within.count + out.variance / out.count
    usual = _smoothed((within.mean + out.mean) / 2, gap)
    left = float(np.mean((gap - usual) ** 2) * _unbiased(len(gap)) - error.mean())
    weight = 1 / max(left, 1e-3 * float(error.mean()), _LEAST_VARIANCE)
    a, b = out.count / out.variance, within.count / within.variance
    # As differences from what is known already: levels may be large, and what is told apart small.
    whole = a * b + weight * (a + b)
    mean_out = out.mean + weight * b * (gap - usual) / whole
    mean_in = out.mean + (b * (a + weight) * gap + a * weight * usual) / whole
    spread_out = np.sqrt(out.variance + (b + weight) / whole)
    spread_in = np.sqrt(within.variance + (a + weight) / whole)
    return (mean_in, spread_in), (mean_out, spread_out)


def _smoothed(place: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the (n,) mean of the values of the records nearest in place; of all where there are few."""
    n = len(values)
    width = max(_FEWEST_NEIGHBOURS, round(_NEIGHBOURS * n))
    if n < 2 * width:
        return np.full(n, values.mean())
    order = np.argsort(place, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(values[order])])
    start = np.clip(np.arange(n) - width // 2, 0, n - width)
    smooth = np.empty(n)
    smooth[order] = (sums[start + width] - sums[start]) / width
    return smooth


def _unbiased(n: int) -> float:
    """Returns the factor by which squares around a smoothed mean fall short of those around the true one."""
    width = max(_FEWEST_NEIGHBOURS, round(_NEIGHBOURS * n))
    width = n if n < 2 * width else width
    return width / max(width - 1, 1)


def _inverse_trigamma(value: float) -> float:
    """Solves trigamma(x) = value by Newton's method on 1/x, which converges from anywhere (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(value**-0.5)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-9:
            break
    return x


def _log_density(z: np.ndarray, freedom: float) -> np.ndarray:
    return np.asarray(stats.norm.logpdf(z) if freedom >= _NORMAL else stats.t.logpdf(z, freedom))


def _as_normal(z: np.ndarray, freedom: float) -> np.ndarray:
    """Returns deviations of a normal variable that are as improbable as those of a t variable, from either side."""
    if freedom >= _NORMAL:
        return z
    tail = stats.norm.isf(np.maximum(stats.t.sf(np.abs(z), freedom), 1e-300))
    return np.asarray(np.sign(z) * tail)
