"""A share of records in each subgroup that the data name, and in the worst one."""

from typing import Any

import numpy as np

from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.metrics import Metric, ScorecardColumn
from assay.results import Measurement, not_applicable

SMALLEST = 20
"""Default number of records below which a subgroup cannot be the worst."""


def subgroup_metrics(of: str, meaning: str, columns: tuple[ScorecardColumn, ...]) -> tuple[Metric, Metric]:
    """Returns the metrics of ``each_subgroup``.

    Args:
        of: name of the share, such as ``accuracy``.
        meaning: of that share, in a sentence.
        columns: of the worst subgroup, on the scorecard.

    Returns:
        The metric of a subgroup and that of the worst one.
    """
    words = of.replace("_", " ")
    return (
        Metric(
            name=f"{of}_of_subgroup",
            title=f"{words[0].upper()}{words[1:]} of a subgroup",
            meaning=f"{meaning} Of one subgroup (age, sex, site, device) alone.",
            better="higher",
            of_sample=True,
        ),
        Metric(
            name=f"{of}_of_worst_subgroup",
            title=f"{words[0].upper()}{words[1:]}, worst subgroup",
            meaning=f"{meaning} Of the subgroup (age, sex, site, device) where it is lowest, of those with enough "
            "records; some subgroup is lowest by chance.",
            better="higher",
            of_sample=True,
            columns=columns,
        ),
    )


def each_subgroup(
    subject: Subject, rows: np.ndarray, of: str, hits: np.ndarray, *, smallest: int = SMALLEST, **conditions: Any
) -> list[Measurement]:
    """Measures a share of the records of each subgroup, and that of the worst.

    Args:
        subject: the model with its data.
        rows: (n,) positions of the records.
        of: name of the share: ``accuracy`` gives ``accuracy_of_subgroup`` and ``accuracy_of_worst_subgroup``.
        hits: (n,) bool.
        smallest: records below which a subgroup cannot be the worst.
        conditions: of every row.

    Returns:
        A row for each subgroup, with its ``attribute``, ``subgroup`` and n, and one for the worst, with their number.
    """
    found = []
    clusters = subject.clusters(rows)
    for attribute, told in subject.dataset.subgroups.items():
        groups = told[rows]
        for group in np.unique(groups[groups != ""]):
            own = groups == group
            about = {"attribute": attribute, "subgroup": str(group), **conditions}
            within = None if clusters is None else clusters[own]
            found.append(share(f"{of}_of_subgroup", hits[own], within, **about))
    return [*found, _worst(f"{of}_of_worst_subgroup", found, smallest, conditions)]


def _worst(name: str, found: list[Measurement], smallest: int, conditions: dict[str, Any]) -> Measurement:
    if not found:
        why = "the data name no subgroups: no column or tag of age, sex, ethnicity, site or device (subgroups)"
        return not_applicable(name, why, reason="no_groups", **conditions)
    large = [row for row in found if row.n >= smallest]
    if not large:
        why = f"every subgroup has fewer than {smallest} of the records (smallest_group)"
        return not_applicable(name, why, reason="too_few_records", **conditions)
    worst = min(large, key=lambda row: row.value)
    about = {**worst.conditions, "subgroups": len(large), "left_out": len(found) - len(large)}
    told = (
        f"{worst.conditions['attribute']} {worst.conditions['subgroup']}, n = {worst.n}: the lowest of {len(large)} "
        "subgroups; its interval is that of one subgroup"
    )
    row = Measurement(name=name, value=worst.value, low=worst.low, high=worst.high, n=worst.n, conditions=about)
    return row.warn(told)
