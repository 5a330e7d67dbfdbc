"""How often each client took part in a federated training, and how often it failed and why."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from assay.data.partition import Partition
from assay.evaluations.client_labels import about_client
from assay.federated.record import FederationRecord
from assay.metrics import POSITIVE, Metric
from assay.results import Measurement

METRICS = (
    Metric(
        name="client_rounds",
        title="Rounds of a client",
        meaning="Number of rounds whose new weights use the update of one client.",
        unit="rounds",
        limits=POSITIVE,
    ),
    Metric(
        name="client_failures",
        title="Failed rounds of a client",
        meaning="Number of rounds for which one client was drawn and whose new weights do without it, because it was "
        "absent, late, or failed.",
        unit="rounds",
        limits=POSITIVE,
    ),
    Metric(
        name="client_failures_by_cause",
        title="Failed rounds of a client, by cause",
        meaning="Number of failed rounds of one client by cause; causes that did not occur at it have no row.",
        unit="rounds",
        limits=POSITIVE,
    ),
    Metric(
        name="least_client_rounds",
        title="Rounds, client that took part least",
        meaning="Rounds whose new weights use the update of the client that took part least.",
        unit="rounds",
        limits=POSITIVE,
    ),
    Metric(
        name="most_client_rounds",
        title="Rounds, client that took part most",
        meaning="Rounds whose new weights use the update of the client that took part most.",
        unit="rounds",
        limits=POSITIVE,
    ),
)
UNKNOWN = "unknown"
"""Cause of a failure whose record has words and no code."""


def participation(record: FederationRecord, training: Partition) -> list[Measurement]:
    """Counts the rounds of each client.

    Args:
        record: of the training.
        training: training records of each client.

    Returns:
        Rows of each client, then the least and the greatest number of rounds.
    """
    failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in record.rounds:
        for number in each.failures:
            failures[number][each.causes.get(number, UNKNOWN)] += 1
    used = [record.participation.get(str(client + 1), 0) for client in range(len(training))]
    n = len(record.rounds)
    found: list[Measurement] = []
    for client, rounds in enumerate(used):
        about, own = about_client(training, client), failures[str(client + 1)]
        found.append(_rounds("client_rounds", rounds, n, **about))
        found.append(_rounds("client_failures", sum(own.values()), n, **about))
        found += [
            _rounds("client_failures_by_cause", count, n, cause=cause, **about) for cause, count in sorted(own.items())
        ]
    return [*found, *_ends(used, n)]


def _ends(used: Sequence[int], n: int) -> list[Measurement]:
    return [_rounds("least_client_rounds", min(used), n), _rounds("most_client_rounds", max(used), n)]


def _rounds(name: str, count: int, n: int, **about: Any) -> Measurement:
    return Measurement(name=name, value=float(count), unit="rounds", n=n, conditions=about)
