"""Measurements of shares of records, with their intervals."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from assay import intervals
from assay.intervals import Interval
from assay.outcomes import Outcomes
from assay.results import Measurement


def share(name: str, hits: np.ndarray, clusters: np.ndarray | None, **conditions: Any) -> Measurement:
    """Measures a share of records with its interval; the records of a cluster count together.

    Args:
        name: of the measurement.
        hits: (n,) bool, whether each record counts.
        clusters: (n,) as ``Subject.clusters``.
        conditions: of the measurement.

    Returns:
        The measurement, as a fraction.
    """
    if clusters is None:
        interval = intervals.proportion(int(hits.sum()), len(hits))
    else:
        interval = intervals.proportion_of_clusters(hits, clusters)
    return estimated(name, interval, n=len(hits), conditions=conditions)


def share_by_record(
    name: str, hits: np.ndarray, clusters: np.ndarray | None, rows: np.ndarray, **conditions: Any
) -> Measurement:
    """Measures a share of test records and keeps the result of each, by which recipes are paired.

    It is not for training records.

    Args:
        name: of the measurement.
        hits: (n,) bool.
        clusters: (n,) as ``Subject.clusters``.
        rows: (n,) positions of the records in the data set.
        conditions: of the measurement.

    Returns:
        The measurement, with the result of each record.
    """
    return replace(share(name, hits, clusters, **conditions), outcomes=Outcomes.of(hits, rows, clusters))


def estimated(
    name: str,
    interval: Interval,
    *,
    n: int,
    unit: str = "fraction",
    conditions: Mapping[str, Any],
) -> Measurement:
    """Returns a measured value with its interval.

    Args:
        name: of the measurement.
        interval: value and ends.
        n: number of records.
        unit: of the value.
        conditions: of the measurement.

    Returns:
        The measurement.
    """
    return Measurement(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=n,
        unit=unit,
        conditions=conditions,
    )
