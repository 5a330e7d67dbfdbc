"""Accuracy of each class and their mean, which do not depend on the shares of the classes.

Balanced accuracy is the mean of the classes' recalls (Brodersen et al. 2010): one over the number of classes for any
constant answer. Its 95 % interval combines those of the recalls by square-and-add (Zou and Donner 2008).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from assay.evaluations.attack_runs import AttackTarget, Curves, worst_case
from assay.evaluations.shares import share, share_by_record
from assay.evaluations.subgroups import each_subgroup
from assay.evaluations.subject import Subject
from assay.intervals import Interval
from assay.metrics import Metric, ScorecardColumn
from assay.results import Measurement, not_applicable

_OF_TWO = {1: "sensitivity", 0: "specificity"}


def metrics_by_class(
    stem: str,
    words: str,
    *,
    columns: Mapping[str, ScorecardColumn] = MappingProxyType({}),
    where: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Metric, ...]:
    """Returns the metrics that ``by_class`` measures for a stem that is not empty.

    Args:
        stem: of the names.
        words: which records count, such as "that stay right in the worst case".
        columns: of the scorecard, by the name without its stem.
        where: see ``Metric``.

    Returns:
        Metrics of balanced accuracy, recall, sensitivity and specificity.
    """
    about: dict[str, Any] = {"better": "higher", "where": where, "of_sample": True}
    meanings = {
        "balanced_accuracy": ("Balanced accuracy", f"Mean over classes of the share of their records {words}."),
        "recall": ("Recall", f"Share of the records of each class {words}."),
        "sensitivity": ("Sensitivity", f"Share of the records of class 1 {words}."),
        "specificity": ("Specificity", f"Share of the records of class 0 {words}."),
    }
    return tuple(
        Metric(
            name=f"{stem}_{name}",
            title=f"{title}, {stem.replace('_', ' ')}",
            meaning=meaning,
            columns=(columns[name],) if name in columns else (),
            **about,
        )
        for name, (title, meaning) in meanings.items()
    )


def by_class(stem: str, subject: Subject, rows: np.ndarray, right: np.ndarray, **conditions: Any) -> list[Measurement]:
    """Measures balanced accuracy and the recall of each class; for two classes also sensitivity and specificity.

    Args:
        stem: prefix of each name: ``worst_case``, or empty without an attack.
        subject: the model with its data.
        rows: (n,) positions of the records, all of the test split.
        right: (n,) bool, whether each was answered correctly.
        conditions: of every row.

    Returns:
        ``STEM_balanced_accuracy``; ``STEM_recall`` of each class, with its name as condition ``class``; for two classes
        ``STEM_sensitivity`` (class 1) and ``STEM_specificity`` (class 0). A class without records is
        ``not_applicable``.
    """
    y, clusters, classes = subject.dataset.y[rows], subject.clusters(rows), subject.dataset.classes
    recalls: dict[int, Measurement] = {}
    for k in range(classes):
        own = y == k
        name, about = _named(stem, "recall"), {"class": subject.dataset.class_names[k], **conditions}
        recalls[k] = (
            share_by_record(name, right[own], None if clusters is None else clusters[own], rows[own], **about)
            if own.any()
            else not_applicable(
                name, f"the records hold none of class {subject.dataset.class_names[k]}", reason="no_records", **about
            )
        )
    found = [_mean(_named(stem, "balanced_accuracy"), recalls, len(rows), conditions)]
    if stem and classes == 2:  # without an attack these names are taken by the operating point
        found += [_renamed(recalls[k], _named(stem, name), conditions) for k, name in _OF_TWO.items()]
    return [*found, *recalls.values()]


def balanced_accuracy(right: np.ndarray, y: np.ndarray, clusters: np.ndarray | None) -> Interval:
    """Returns the mean recall over the classes that occur, with its 95 % interval.

    Args:
        right: (n,) bool.
        y: (n,) labels.
        clusters: (n,) as ``Subject.clusters``.

    Returns:
        The mean and its interval, as fractions.
    """
    each = [share("recall", right[y == k], None if clusters is None else clusters[y == k]) for k in np.unique(y)]
    return _joined(each)


def under_attack(target: AttackTarget, curves: Curves) -> Iterator[Measurement]:
    """Measures balanced accuracy, the recall of each class, and each subgroup, in the worst case at every radius.

    Args:
        target: the model and its records.
        curves: of all attacks.

    Returns:
        Iterator over measurements.
    """
    for epsilon, fooled in worst_case(list(curves.values())).items():
        about: dict[str, Any] = {"epsilon": epsilon, "norm": target.base.norm, "units": target.subject.space}
        withstood = ~fooled.numpy()
        yield from by_class("worst_case", target.subject, target.rows, withstood, **about)
        if target.subject.dataset.subgroups:
            yield from each_subgroup(target.subject, target.rows, "worst_case_accuracy", withstood, **about)


def _mean(name: str, recalls: dict[int, Measurement], n: int, conditions: dict[str, Any]) -> Measurement:
    """Returns the mean of the measured recalls; not applicable for fewer than two."""
    known = [row for row in recalls.values() if row.status == "measured"]
    absent = [str(row.conditions["class"]) for row in recalls.values() if row.status != "measured"]
    if len(known) < 2:
        why = f"the records are all of one class: there are none of {', '.join(absent)}"
        return not_applicable(name, why, reason="no_records", **conditions)
    joined = _joined(known)
    row = Measurement(name=name, value=joined.value, low=joined.low, high=joined.high, n=n, conditions={**conditions})
    told = f"mean over {len(known)} of {len(recalls)} classes: no record is of {', '.join(absent)}"
    return row.warn(told) if absent else row


def _joined(recalls: list[Measurement]) -> Interval:
    """Returns the mean of independent shares; the half widths of their intervals are added as squares."""
    value, k = float(np.mean([row.value for row in recalls])), len(recalls)
    below = float(np.linalg.norm([row.value - row.low for row in recalls])) / k
    above = float(np.linalg.norm([row.high - row.value for row in recalls])) / k
    return Interval(value=value, low=value - below, high=value + above)


def _renamed(row: Measurement, name: str, conditions: dict[str, Any]) -> Measurement:
    """Returns a recall under its name for two classes."""
    if row.status != "measured":
        return not_applicable(name, *row.warnings, reason="no_records", **conditions)
    return replace(row, name=name, conditions={**conditions})


def _named(stem: str, name: str) -> str:
    if stem:
        return f"{stem}_{name}"
    return "class_recall" if name == "recall" else name
