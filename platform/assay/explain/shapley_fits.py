"""Shapley values from the answers to some coalitions: two estimators that are linear in the answers.

Shapley values depend on the odd part of a game alone: half the difference between the answer to a coalition and that to
its complement. With s = +1 for a present group and −1 for an absent one, it is a sum of products of an odd number of
the s. Both estimators fit it, and take the values of the fit:

- ``linear``: the regression of Kernel SHAP, products of one. Products of three and more are noise to it.
- ``smooth``: kriging. Single coefficients are free, where there are as many pairs as groups, and those of products of
  k = 3, 5, 7 … are random with variance ρᵏ. Where answers tell such a coefficient, its share goes to the right groups,
  so that the error falls faster with the budget. The covariance of two answers is the odd part of Π (1 + ρ sᵢ sᵢ′), so
  no product is ever listed.
"""

from typing import Literal

import numpy as np

from assay.explain.sampling import Pairs

Fit = Literal["smooth", "linear"]

_SMOOTHNESS = 3.0
"""ρ times the number of groups: all products of three then vary about twice as much as all those of five."""
_SINGLES = 1000.0
"""Variance of single coefficients over ρ, where the pairs are fewer than the groups."""
_JITTER = 1e-10
"""Share of the variance that is added to the diagonal, for the solution in floating point."""
_RANK = 1e-10
"""Singular values below this share of the greatest are 0."""
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(12)


def value_weights(pairs: Pairs, weights: np.ndarray, fit: Fit) -> np.ndarray:
    """Returns the matrix that turns odd parts into values.

    Args:
        pairs: sampled coalitions.
        weights: (k,) of the regression; a pair with 0 is left out.
        fit: the estimator.

    Returns:
        (k, groups); each row sums to 0. Times the odd part of each pair, beyond the equal share of its groups in the
        change, it gives what each value has beyond its equal share. Where the pairs do not determine the values, it
        gives the smallest.
    """
    found = np.zeros((len(weights), pairs.shown.shape[1]))
    used = np.flatnonzero(weights)
    if len(used):
        shown = pairs.shown[used].astype(float)
        found[used] = _linear(shown, weights[used]) if fit == "linear" else _smooth(shown)
    return found


def _linear(shown: np.ndarray, weights: np.ndarray) -> np.ndarray:
    centred, root = shown - shown.mean(1, keepdims=True), np.sqrt(weights)
    return (np.linalg.pinv(centred * root[:, None], rcond=_RANK) * root).T


def _smooth(shown: np.ndarray) -> np.ndarray:
    weights = _kriging(shown)[0]
    centred: np.ndarray = weights - weights.mean(1, keepdims=True)
    return centred


def determines(shown: np.ndarray) -> bool:
    """Returns whether answers to coalitions and their complements determine the values of a game without products.

    Args:
        shown: (pairs, groups) bool, whether a group is present.

    Returns:
        Whether they do, together with the answers to all groups and to none.
    """
    signs = 2.0 * np.concatenate([shown, np.ones((1, shown.shape[1]))]) - 1
    return bool(np.linalg.matrix_rank(signs) == shown.shape[1])


def expected_error(pairs: Pairs) -> float:
    """Returns the expected squared error of all values by ``smooth``, but for a constant: how good a sample is.

    It knows no answer, so a sample that is chosen by it has no bias.

    Args:
        pairs: sampled coalitions.

    Returns:
        The error in units of the variance of the products, minus the same for all samples.
    """
    return _kriging(pairs.shown.astype(float))[1]


def _kriging(shown: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the weights of universal kriging, whose trend are the single groups, and its expected squared error."""
    count = shown.shape[1]
    # The coalition of all groups is among those with an answer.
    signs = 2 * np.concatenate([shown, np.ones((1, count))]) - 1
    rho = min(_SMOOTHNESS / count, 0.9)
    covariance = _odd(rho, signs @ signs.T, count)
    covariance[np.diag_indices(len(signs))] *= 1 + _JITTER
    # A value is 2 Σ f(T) ÷ |T| over products T with its group: the integral of the others' part over ρ.
    others = signs.sum(1, keepdims=True) - signs
    points, steps = (_NODES + 1) / 2 * rho, _NODE_WEIGHTS / 2 * rho
    integral = sum(step * _even(point, others, count - 1) for point, step in zip(points, steps, strict=True))
    with_values = 2 * signs * integral
    solved = np.linalg.solve(covariance, np.concatenate([signs, with_values], axis=1))
    trend, smooth = solved[:, :count], solved[:, count:]
    # Fewer pairs than groups hardly determine the values: these are then drawn towards the equal share.
    known = np.eye(count) / (_SINGLES * rho) if len(shown) < count else 0.0
    inverse = np.linalg.pinv(signs.T @ trend + known, rcond=_RANK, hermitian=True)
    left = 2 * np.eye(count) - signs.T @ smooth
    error = float(np.sum(left * (inverse @ left)) - np.sum(with_values * smooth))
    # The last row belongs to the coalition of all groups, which has nothing beyond its share.
    return (smooth + trend @ inverse @ left)[:-1], error


def _product(rho: float, sums: np.ndarray, count: int) -> np.ndarray:
    """Returns Π (1 + ρ sᵢ) of signs with given sums."""
    positive = (count + sums) / 2
    out: np.ndarray = (1 + rho) ** positive * (1 - rho) ** (count - positive)
    return out


def _odd(rho: float, sums: np.ndarray, count: int) -> np.ndarray:
    return (_product(rho, sums, count) - _product(-rho, sums, count)) / 2


def _even(rho: float, sums: np.ndarray, count: int) -> np.ndarray:
    return (_product(rho, sums, count) + _product(-rho, sums, count)) / 2
