"""The rounds of federated recipes: answers, failures, bytes, and time on named networks."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from assay.federated.network import NETWORKS
from assay.report.rows import measured, of_recipe
from assay.report.scorecard import Scorecard


@dataclass(frozen=True, kw_only=True)
class NetworkTime:
    """Duration of a training on one network."""

    seconds: float
    added: float
    """What the network adds, as a share of the computation; NaN without any."""


@dataclass(frozen=True, kw_only=True)
class RoundsRow:
    """The rounds of one recipe; figures are means over runs where nothing else is said."""

    recipe: str
    completed: float
    answered: float
    """Share of the clients that were drawn."""
    failures: Mapping[str, int]
    """Number by cause, over all runs; causes that did not occur are left out."""
    least: int
    """Rounds of the client that took part least, in any run."""
    most: int
    """Rounds of the client that took part most, in any run."""
    up: float
    """Bytes of a round, all clients together."""
    down: float
    total: float
    """Bytes up and down of all rounds."""
    times: Mapping[str, NetworkTime]
    """By the title of the network."""


def rounds(card: Scorecard, frame: pd.DataFrame) -> list[RoundsRow]:
    """Returns a row for each federated recipe whose rounds are known.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The rows, in the order of the recipes.
    """
    found = []
    for recipe in card.recipes:
        own = of_recipe(frame, recipe)
        if measured(own, "rounds_completed").empty:
            continue
        found.append(
            RoundsRow(
                recipe=recipe,
                completed=_mean(own, "rounds_completed"),
                answered=_mean(own, "answered_share"),
                failures=failures(measured(own, "round_failures")),
                least=int(measured(own, "least_client_rounds")["value"].min()),
                most=int(measured(own, "most_client_rounds")["value"].max()),
                up=_mean(own, "bytes_up_per_round"),
                down=_mean(own, "bytes_down_per_round"),
                total=_mean(own, "bytes_up") + _mean(own, "bytes_down"),
                times=_times(own),
            )
        )
    return found


def failures(rows: pd.DataFrame) -> dict[str, int]:
    """Adds up failures by cause.

    Args:
        rows: with the condition ``cause``.

    Returns:
        Number by cause, the most frequent first; none of causes that did not occur.
    """
    counts: Counter[str] = Counter()
    for conditions, value in zip(rows["conditions"], rows["value"], strict=True):
        counts[str(conditions["cause"])] += int(value)
    return {cause: count for cause, count in counts.most_common() if count}


def _times(own: pd.DataFrame) -> dict[str, NetworkTime]:
    """Returns the durations by network; what is added is the ratio of the means, as in the figure."""
    times = {}
    for key, network in NETWORKS.items():
        compute, communication = (
            measured(own, name, network=key)["value"]
            for name in ("network_compute_seconds", "network_communication_seconds")
        )
        if len(compute):
            spent, added = float(compute.mean()), float(communication.mean())
            times[network.title] = NetworkTime(seconds=spent + added, added=added / spent if spent else math.nan)
    return times


def _mean(rows: pd.DataFrame, name: str) -> float:
    """Returns the mean of a measurement over runs; NaN where it was not measured."""
    return float(measured(rows, name)["value"].mean())
