"""The Pareto front of many points."""

from bisect import bisect_left

import numpy as np

_BLOCK = 1024
"""Points that are compared with the front at once, for four or more goals."""


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Returns which points are on the Pareto front: no other is at least as good in every goal and better in one.

    Equal points are on the front together. Two goals take O(n log n): points are sorted by the first, and one pass
    keeps the best of the second. Three take the same, with a sorted staircase of the other two (Kung, Luccio and
    Preparata 1975, JACM 22(4)). More take O(n × front).

    Args:
        values: (n, goals), the greater the better.

    Returns:
        (n,) bool; False for a point with a NaN.
    """
    known = ~np.isnan(values).any(1)
    front = np.zeros(len(values), bool)
    if not known.any():
        return front
    if values.shape[1] == 0:
        return known
    # Equal points become one, so any point that is at least as good in all goals is better in one.
    distinct, places = np.unique(values[known], axis=0, return_inverse=True)
    descending = distinct[::-1]
    kept = {1: _best, 2: _of_two, 3: _of_three}.get(values.shape[1], _of_many)(descending)
    front[known] = kept[::-1][places.ravel()]
    return front


def _best(values: np.ndarray) -> np.ndarray:
    return np.arange(len(values)) == 0


def _of_two(values: np.ndarray) -> np.ndarray:
    """Of distinct points, sorted by the first goal and then the second, both descending."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values[:-1, 1])])
    # The first point has nothing before it, also where its second goal is −∞.
    return (values[:, 1] > before) | (np.arange(len(values)) == 0)


def _of_three(values: np.ndarray) -> np.ndarray:
    """Of distinct points, sorted by all goals, descending: one that comes later is never better in the first."""
    kept = np.zeros(len(values), bool)
    seconds: list[float] = []
    """Second goals of the staircase, ascending; the third goals beside them descend."""
    thirds: list[float] = []
    for place, (_, second, third) in enumerate(values.tolist()):
        step = bisect_left(seconds, second)
        if step < len(seconds) and thirds[step] >= third:
            continue
        kept[place] = True
        # The steps that it covers are those below it in both goals, right before its place.
        end = step + (step < len(seconds) and seconds[step] == second)
        begin = step
        while begin and thirds[begin - 1] <= third:
            begin -= 1
        seconds[begin:end], thirds[begin:end] = [second], [third]
    return kept


def _of_many(values: np.ndarray) -> np.ndarray:
    """Of distinct points, sorted by all goals, descending: no point is beaten by one that comes later."""
    kept: list[int] = []
    front = np.empty((0, values.shape[1]))
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK]
        beaten = np.zeros(len(block), bool)
        for one in front:
            beaten |= (one >= block).all(1)
        for place in np.flatnonzero(~beaten):
            if not beaten[place]:
                worse = (block[place] >= block).all(1)
                worse[place] = False
                beaten |= worse
        fresh = np.flatnonzero(~beaten)
        kept += (begin + fresh).tolist()
        front = np.concatenate([front, block[fresh]])
    found = np.zeros(len(values), bool)
    found[kept] = True
    return found
