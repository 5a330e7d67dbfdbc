"""How many records clients have, and how much they differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assay.report.rows import measured, of_recipe
from assay.report.scorecard import Scorecard


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Training records of one recipe's clients in its first run."""

    clients: tuple[str, ...]
    """Site of each client, or its number."""
    classes: tuple[str, ...]
    counts: np.ndarray
    """(clients, classes)"""
    mean: float
    """Mean Hellinger distance of the clients' labels from those of all clients."""
    worst: float
    """The greatest of these distances."""
    by_chance: float
    """Mean of these distances if records were dealt at random."""


@dataclass(frozen=True, kw_only=True)
class PartitionRow:
    """The partition of one recipe; figures are means over runs."""

    recipe: str
    clients: int
    fewest: int
    """Records of the smallest client in any run."""
    most: int
    """Records of the largest client in any run."""
    hellinger: float
    worst_hellinger: float
    by_chance: float
    jensen_shannon: float
    worst_jensen_shannon: float
    size_hellinger: float
    size_jensen_shannon: float
    notes: tuple[str, ...]
    """Notes on how records were dealt."""


def class_counts(frame: pd.DataFrame, recipe: str) -> ClassCounts | None:
    """Returns the training records of each class at each client in a recipe's first run.

    Args:
        frame: rows of the cohort.
        recipe: its name.

    Returns:
        The counts; None where they were not measured.
    """
    own = of_recipe(frame, recipe)
    rows = measured(own, "client_class_records")
    if rows.empty:
        return None
    first = min(zip(rows["repeat"], rows["fold"], strict=True))
    own = own[((own["repeat"] == first[0]) & (own["fold"] == first[1])).to_numpy()]
    rows = measured(own, "client_class_records")
    conditions = list(rows["conditions"])
    numbers = sorted({int(c["client"]) for c in conditions})
    classes = tuple(dict.fromkeys(str(c["class"]) for c in conditions))
    counts = np.zeros((len(numbers), len(classes)), np.int64)
    names: dict[int, str] = {}
    for condition, value in zip(conditions, rows["value"], strict=True):
        number = int(condition["client"])
        names[number] = str(condition.get("site", number))
        counts[numbers.index(number), classes.index(str(condition["class"]))] = int(value)
    return ClassCounts(
        clients=tuple(names[number] for number in numbers),
        classes=classes,
        counts=counts,
        mean=_mean(own, "mean_label_hellinger"),
        worst=_mean(own, "worst_label_hellinger"),
        by_chance=_mean(own, "label_hellinger_by_chance"),
    )


def partitions(card: Scorecard, frame: pd.DataFrame) -> list[PartitionRow]:
    """Returns a row for each federated recipe whose clients were counted.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The rows, in the order of the recipes.
    """
    rows = []
    for recipe in card.recipes:
        own = of_recipe(frame, recipe)
        sizes = measured(own, "client_records")
        if sizes.empty:
            continue
        together = measured(own, "mean_label_hellinger")
        rows.append(
            PartitionRow(
                recipe=recipe,
                clients=len({_client(conditions) for conditions in sizes["conditions"]}),
                fewest=int(sizes["value"].min()),
                most=int(sizes["value"].max()),
                hellinger=_mean(own, "mean_label_hellinger"),
                worst_hellinger=_mean(own, "worst_label_hellinger"),
                by_chance=_mean(own, "label_hellinger_by_chance"),
                jensen_shannon=_mean(own, "mean_label_jensen_shannon"),
                worst_jensen_shannon=_mean(own, "worst_label_jensen_shannon"),
                size_hellinger=_mean(own, "size_hellinger"),
                size_jensen_shannon=_mean(own, "size_jensen_shannon"),
                notes=tuple(dict.fromkeys(note for notes in together["warnings"] for note in notes)),
            )
        )
    return rows


def _client(conditions: Any) -> int:
    return int(conditions["client"])


def _mean(rows: pd.DataFrame, name: str) -> float:
    """Returns the mean of a measurement over runs; NaN where it was not measured."""
    return float(measured(rows, name)["value"].mean())
