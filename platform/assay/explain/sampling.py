"""Samples of coalitions for regressions: pairs of a coalition and its complement, without replacement."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Sampling = Literal["leverage", "kernel"]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Coalitions, each of which stands for itself and its complement."""

    shown: np.ndarray
    """(k, groups) bool, no row twice nor beside its complement."""
    weights: np.ndarray
    """(k,) of the least squares whose solution are the Shapley values: those of the kernel over the chance of being
    drawn."""
    halves: tuple[np.ndarray, np.ndarray]
    """Weights of two halves of the sample, each (k,) with 0 for the other half. Sizes of which every coalition is there
    have no chance in them, and are whole in both."""


def sampled_pairs(
    count: int, pairs: int, sampling: Sampling, draw: np.random.Generator, *, singles: bool = False
) -> Pairs:
    """Draws pairs without replacement, a stated number of each size.

    The weight of a coalition S of G groups in the regression is (G − 1) ÷ (C(G, |S|) |S| (G − |S|)). Its leverage, as
    Musco and Witter (ICLR 2025, arXiv:2410.01917) show, is 1 ÷ C(G, |S|), so that all sizes are drawn equally often, up
    to the number of their coalitions. They draw each pair by its own chance; here the number of each size is fixed but
    for its fraction, which has less variance and the same chances.

    Args:
        count: number of groups, at least 2.
        pairs: that are wanted; fewer where there are not as many.
        sampling: how many of each size.
        draw: random numbers.
        singles: whether single groups come first, as many as there is room for: where little more is asked, their
            values are exact for a game of pairs.

    Returns:
        The sample.
    """
    sizes = np.arange(1, count // 2 + 1)
    available = np.array([math.comb(count, s) / (2 if 2 * s == count else 1) for s in sizes.tolist()])
    # A coalition of half the groups has a complement of the same size: such pairs are half as many.
    shares = np.where(2 * sizes == count, 0.5, 1.0)
    totals = shares / (sizes * (count - sizes))
    wanted = shares if sampling == "leverage" else totals
    first = min(int(available[0]), pairs) if singles else 0
    quotas = (
        np.concatenate([[first], _quotas(available[1:], wanted[1:], pairs - first)])
        if singles
        else _quotas(available, wanted, pairs)
    )
    drawn = np.diff(np.floor(np.concatenate([[0.0], np.cumsum(quotas)]) + draw.random() + 1e-9)).astype(int)
    drawn = np.minimum(drawn, available.astype(np.int64) if available.max() < 2**62 else drawn)
    shown: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for size, quota, number, total in zip(sizes.tolist(), quotas, drawn.tolist(), totals, strict=True):
        if not number:
            continue
        shown.append(_distinct(count, size, number, draw))
        weight = np.full(number, total / (number if quota >= 1 else quota))
        half = draw.permutation(number) % 2
        # Where single groups come first, halves that share them would agree though both are wrong.
        whole = not (singles and size == 1) and number >= math.comb(count, size) / (2 if 2 * size == count else 1)
        weights.append(weight)
        for side, own in ((halves[0], half == 0), (halves[1], half == 1)):
            side.append(weight if whole else weight * own * (number / max(own.sum(), 1)))
    return Pairs(
        shown=np.concatenate(shown),
        weights=np.concatenate(weights),
        halves=(np.concatenate(halves[0]), np.concatenate(halves[1])),
    )


def _quotas(available: np.ndarray, shares: np.ndarray, wanted: int) -> np.ndarray:
    """Returns how many are taken of each size: in proportion to the shares, and no more than there are."""
    quotas, left = np.zeros(len(available)), np.ones(len(available), bool)
    while left.any():
        each = max(wanted - quotas[~left].sum(), 0.0) * shares / shares[left].sum()
        full = left & (each >= available)
        if not full.any():
            quotas[left] = each[left]
            break
        quotas[full] = available[full]
        left &= ~full
    return quotas


def _distinct(count: int, size: int, number: int, draw: np.random.Generator) -> np.ndarray:
    """Returns different coalitions of a size, (number, count) bool; of half the groups, those with the first group."""
    first = int(2 * size == count)
    rest, chosen = count - first, size - first
    if math.comb(rest, chosen) <= 4 * number:
        every = list(itertools.combinations(range(rest), chosen))
        places = [every[place] for place in np.sort(draw.permutation(len(every))[:number])]
    else:
        seen: dict[tuple[int, ...], None] = {}
        while len(seen) < number:
            seen[tuple(np.sort(draw.permutation(rest)[:chosen]).tolist())] = None
        places = list(seen)
    shown = np.zeros((number, count), bool)
    shown[:, :first] = True
    rows = np.repeat(np.arange(number), chosen)
    shown[rows, np.array(places, int).ravel() + first] = True
    return shown
