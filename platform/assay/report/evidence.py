"""Columns of the scorecard, as the evaluations declare them, at the conditions of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pandas as pd

from assay.metrics import GROUPS, Better, Chosen, Metric, OfStudy, ScorecardColumn, ShownAs, declared, metrics_named
from assay.report.rows import select, settings

_NORMS = {"linf": "L∞", "l2": "L2"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One column of the scorecard: a measurement at certain conditions, and how to read it."""

    key: str
    title: str
    name: str
    """Name of the measurement."""
    meaning: str
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of the measurement."""
    better: Better = "higher"
    unit: ShownAs = "percent"
    least: float = 0.0
    most: float = 1.0
    """Least and greatest possible value, which limit intervals."""
    estimated: bool = True
    """Whether the value is an estimate with an interval; false for spent ε, which is known exactly."""
    optional: bool = False
    """Whether the column is left out where no trial was asked for it, and where it applies to no recipe."""
    sampled: bool = False
    """Whether it may use a sample of the test records: then its size and the accuracy on it are shown."""
    from_zero: bool = False
    """Whether it is shown with its own value at ε = 0 on the same records and runs, instead of the accuracy."""
    group: str = ""
    """Heading of its group of columns."""
    beside: "Evidence | None" = None
    """Column that is shown on the same runs, where this one has fewer runs: so means over different folds
    are not compared.
    """

    @property
    def evaluation(self) -> str:
        """The evaluation whose sample of the test records it uses, where accuracy is comparable; else empty."""
        asked = (
            evaluation
            for evaluation, metric in metrics_named(self.name)
            if metric.of_sample and metric.against_accuracy and metric.holds(self.where)
        )
        return next(asked, "")


def scorecard_columns(frame: pd.DataFrame, *, epsilon: float, norm: str = "linf") -> tuple[Evidence, ...]:
    """Returns every column that an evaluation declares, in the order of the scorecard.

    Args:
        frame: rows of a cohort, which determine the conditions of the columns.
        epsilon: the reference radius; NaN where none was measured.
        norm: of that radius.

    Returns:
        The columns.

    Raises:
        AssertionError: two evaluations declare a column with the same key.
    """
    given = {OfStudy.RADIUS: epsilon, OfStudy.NORM: norm}
    columns = [(column, metric) for _, metric in declared() for column in metric.columns]
    columns.sort(key=lambda pair: (GROUPS.index(pair[0].group), pair[0].place, pair[0].key))
    made = {column.key: _shown(column, metric, frame, given) for column, metric in columns}
    if len(made) < len(columns):
        keys = [column.key for column, _ in columns]
        raise AssertionError(f"two columns have one key: {', '.join(sorted({k for k in keys if keys.count(k) > 1}))}")
    return tuple(
        replace(made[column.key], beside=made[column.beside]) if column.beside else made[column.key]
        for column, _ in columns
    )


def _shown(column: ScorecardColumn, metric: Metric, frame: pd.DataFrame, given: Mapping[OfStudy, Any]) -> Evidence:
    """Returns a column at its conditions."""
    where: dict[str, Any] = {}
    for key, value in column.where.items():
        if isinstance(value, Chosen):
            where[key] = value.among(settings(select(frame, metric.name, **where), key))
        else:
            where[key] = given[value] if isinstance(value, OfStudy) else value
    texts = {key: column.texts.get(key, str)(value) for key, value in where.items()}
    least, most = metric.possible
    return Evidence(
        key=column.key,
        title=(column.title or metric.title).format(**texts),
        name=metric.name,
        meaning=(column.meaning or metric.meaning).format(**texts),
        where=where,
        better=metric.better,
        unit=column.shown,
        least=least,
        most=most,
        estimated=column.estimated,
        optional=column.optional,
        sampled=column.sampled,
        from_zero=column.from_zero,
        group=column.group,
    )


@dataclass(frozen=True, kw_only=True)
class ColumnGroup:
    """Columns with a common heading."""

    title: str
    columns: tuple[Evidence, ...]


def in_tables(evidence: Sequence[Evidence], *, together: int = 8, most: int = 10) -> list[list[ColumnGroup]]:
    """Arranges columns in tables that fit a page: small groups share one, the largest are split.

    Args:
        evidence: the columns.
        together: greatest number of columns of groups that share a table.
        most: columns of a table; a group that has more is split into parts of about the same size.

    Returns:
        Groups of columns, by table.
    """
    tables: list[list[ColumnGroup]] = []
    for name in dict.fromkeys(column.group for column in evidence):
        columns = tuple(column for column in evidence if column.group == name)
        taken = sum(len(group.columns) for group in tables[-1]) if tables else together
        if taken + len(columns) <= together:
            tables[-1].append(ColumnGroup(title=name, columns=columns))
        else:
            tables += [[ColumnGroup(title=name, columns=part)] for part in parts(columns, most)]
    return tables


def parts(columns: Sequence[Evidence], most: int) -> list[tuple[Evidence, ...]]:
    """Splits columns into as few parts as possible, none longer than ``most``, of about the same size.

    Args:
        columns: to split.
        most: greatest length of a part.

    Returns:
        The parts.
    """
    count = -(-len(columns) // most) or 1
    ends = [round(place * len(columns) / count) for place in range(count + 1)]
    return [tuple(columns[start:end]) for start, end in pairwise(ends)]


def norm_text(norm: str) -> str:
    """Formats a norm.

    Args:
        norm: ``linf`` or ``l2``.

    Returns:
        ``L∞`` or ``L2``.
    """
    return _NORMS.get(norm, norm)
