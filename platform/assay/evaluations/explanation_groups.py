"""Values and interactions of groups that a study names, for the methods that take groups away."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay import intervals
from assay.evaluations.shares import estimated
from assay.explain.base import Explainer
from assay.explain.coalitions import WithGroups
from assay.explain.groups import by_group, resolved
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.shapley import ExactShapley
from assay.explain.named_groups import OTHERS, NamedGroups
from assay.results import Finding

LOG_ODDS = "log-odds"


def named(explainer: Explainer, records: MeasuredRecords) -> tuple[str, ...]:
    """Returns the names of the groups of a method.

    Args:
        explainer: the method.
        records: that it explains.

    Returns:
        The names by number; empty where it has no groups, or these have no names.
    """
    if not isinstance(explainer, WithGroups):
        return ()
    return explainer.group_names(records.reference, tuple(records.x.shape[1:]))


def group_findings(
    explainer: Explainer,
    records: MeasuredRecords,
    values: Tensor,
    clusters: np.ndarray | None,
    about: Mapping[str, Any],
) -> list[Finding]:
    """Returns the mean value of each named group over records, and the mean interaction of each pair.

    Args:
        explainer: the method.
        records: that it explained.
        values: (n, ...) of their entries.
        clusters: (n,) as ``Subject.clusters``.
        about: conditions: the method with its settings.

    Returns:
        Rows; none of a method without named groups. Interactions are those of exact Shapley values alone.
    """
    names = named(explainer, records)
    if not names:
        return []
    each = values_of(explainer, records, values, len(names))
    members = members_of(explainer, records, names)
    found: list[Finding] = []
    for number, name in enumerate(names):
        own = each[:, number]
        conditions = {**about, "group": name, "holds": members[name], "direction": float(own.mean())}
        interval = intervals.mean(np.abs(own), clusters).interval
        found.append(estimated("group_value", interval, n=len(own), unit=LOG_ODDS, conditions=conditions))
    if isinstance(explainer, ExactShapley) and len(names) > 1:
        pairs = interactions_of(explainer, records)
        for first in range(len(names)):
            for second in range(first + 1, len(names)):
                own = pairs[:, first, second]
                told = {"first": names[first], "second": names[second], "direction": float(own.mean())}
                interval = intervals.mean(np.abs(own), clusters).interval
                conditions = {**about, **told}
                found.append(estimated("group_interaction", interval, n=len(own), unit=LOG_ODDS, conditions=conditions))
    return found


def values_of(explainer: Explainer, records: MeasuredRecords, values: Tensor, count: int) -> np.ndarray:
    """Returns the value of each group of records, (n, count) float64.

    Args:
        explainer: a method with groups.
        records: that it explained.
        values: (n, ...) of their entries.
        count: of groups.

    Returns:
        The values.
    """
    assert isinstance(explainer, WithGroups)
    return by_group(values, explainer.grouped(records.x, records.reference), count).cpu().numpy()


def interactions_of(explainer: ExactShapley, records: MeasuredRecords) -> np.ndarray:
    """Returns the interaction of each pair of groups of records, (n, G, G) float64.

    Args:
        explainer: exact Shapley values.
        records: that it explains.

    Returns:
        The interactions; symmetric, 0 on the diagonal.
    """
    return explainer.interactions(records.model, records.x, records.target, records.reference).cpu().numpy()


def members_of(explainer: Explainer, records: MeasuredRecords, names: tuple[str, ...]) -> dict[str, str]:
    """Returns what each group holds, in words, by its name.

    Args:
        explainer: a method with groups.
        records: that it explains.
        names: of the groups.

    Returns:
        Texts such as ``radius_mean, area_mean`` and ``samples 70 to 109``.
    """
    assert isinstance(explainer, WithGroups)
    groups = resolved(explainer.groups, records.reference)
    assert groups is not None
    found = {name: described(groups, name, tuple(records.x.shape[1:])) for name in groups.names}
    if OTHERS in names:
        place = explainer.grouped(records.x[:1], records.reference)[0]
        columns = records.reference.columns_of(tuple(records.x.shape[1:]))
        left = torch.nonzero(place.flatten() == names.index(OTHERS)).flatten().tolist()
        found[OTHERS] = ", ".join(dict.fromkeys(columns[one] for one in left)) if columns else "everything else"
    return found


def described(groups: NamedGroups, name: str, shape: tuple[int, ...]) -> str:
    """Returns what a stated group holds, in words.

    Args:
        groups: as they were stated.
        name: of one of them.
        shape: of a record.

    Returns:
        The text; rows, columns and samples count from 1.
    """
    part: Any = groups.root[name]
    if groups.modality == "tabular":
        return ", ".join(part)
    if groups.modality == "signal":
        return f"samples {int(part[0]) + 1} to {int(part[1])}"
    ends = [(round(start * side) + 1, round(end * side)) for (start, end), side in zip(part, shape[-2:], strict=True)]
    return f"rows {ends[0][0]} to {ends[0][1]}, columns {ends[1][0]} to {ends[1][1]}"


def shown_groups(explainer: Explainer, records: MeasuredRecords, values: Tensor) -> dict[str, Any]:
    """Returns values and interactions of the named groups of example records, for readers.

    Args:
        explainer: the method.
        records: the examples.
        values: (k, ...) of their entries.

    Returns:
        ``names``, ``values`` (k × groups) and, of exact Shapley values, ``interactions`` (k × groups × groups); empty
        where groups have no names.
    """
    names = named(explainer, records)
    if not names:
        return {}
    found: dict[str, Any] = {
        "names": list(names),
        "values": values_of(explainer, records, values, len(names)).tolist(),
    }
    if isinstance(explainer, ExactShapley):
        found["interactions"] = interactions_of(explainer, records).tolist()
    return found
