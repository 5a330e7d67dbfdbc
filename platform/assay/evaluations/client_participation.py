"""How often each client took part in a federated training, and how often it failed."""

from typing import Any

from assay.data.partition import Partition
from assay.evaluations.base import Subject
from assay.evaluations.client_labels import about_client
from assay.metrics import POSITIVE, Metric
from assay.results import Measurement, not_applicable

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
)


def participation(subject: Subject, training: Partition) -> list[Measurement]:
    """Counts the rounds of each client, from the log of the training.

    Args:
        subject: with its log.
        training: training records of each client.

    Returns:
        Two rows for each client.
    """
    record: dict[str, Any] = {} if subject.log is None else subject.log.federation
    if not record:
        why = "the log of the training has no rounds, as of earlier versions"
        return [not_applicable(metric.name, why, reason="no_records") for metric in METRICS]
    rounds, used = record["rounds"], record["participation"]
    found = []
    for client in range(len(training)):
        about, number = about_client(training, client), str(client + 1)
        failures = sum(number in each["failures"] for each in rounds)
        for name, count in (("client_rounds", used.get(number, 0)), ("client_failures", failures)):
            found.append(Measurement(name=name, value=float(count), unit="rounds", n=len(rounds), conditions=about))
    return found
