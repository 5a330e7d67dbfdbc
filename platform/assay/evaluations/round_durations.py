"""How long the rounds of a federated training take on named networks, by counted bytes and measured seconds."""

import math

from assay.federated.network import NETWORKS, RoundLoad, training_time
from assay.federated.participation import participants
from assay.federated.record import FederationRecord, RoundRecord
from assay.metrics import POSITIVE, Metric
from assay.recipes import Federation
from assay.results import Measurement, not_applicable

_ASSUMED = (
    "Assumed: every client of a round computes as long as its slowest, and sends the mean of the round; "
    "clients that fail are not waited for."
)
METRICS = (
    Metric(
        name="network_compute_seconds",
        title="Computation of all rounds",
        meaning="Duration of all rounds on a network that takes no time, if every client has a machine like this one: "
        "each round lasts as long as its slowest client computes.",
        unit="seconds",
        better="lower",
    ),
    Metric(
        name="network_communication_seconds",
        title="Communication of all rounds",
        meaning=f"What a named network adds to the duration of all rounds. {_ASSUMED}",
        unit="seconds",
        better="lower",
    ),
    Metric(
        name="network_added_share",
        title="Time that the network adds",
        meaning="What a named network adds, as a share of the computation: 0.4 is 40 % more time.",
        better="lower",
        limits=POSITIVE,
    ),
)


def durations(record: FederationRecord, federation: Federation, *, seed: int) -> list[Measurement]:
    """Measures the duration of a training on each named network.

    The record holds sums over the clients of a round and its slowest client, not the figures of each client, of which
    there may be thousands. So all clients of a round are given the same bytes, and the time of the slowest. Computation
    is then exact; communication is exact where updates have the same size and lines the same rate, and otherwise at
    most too long by what a slow line and a slow computer at the same client would take.

    Args:
        record: of the training.
        federation: settings with which it was trained, which say who took part.
        seed: of the trial, which drew the clients of each round; also that of their lines.

    Returns:
        Three rows for each network.
    """
    loads = [
        _load(each, federation, clients=len(record.sizes), seed=seed, number=number)
        for number, each in enumerate(record.rounds, start=1)
    ]
    names = [metric.name for metric in METRICS]
    if None in loads:
        why = "the clients of its rounds are not those that its seed draws now"
        return [
            not_applicable(name, why, reason="not_logged", network=network) for network in NETWORKS for name in names
        ]
    found = []
    for key, network in NETWORKS.items():
        time = training_time(network, [load for load in loads if load is not None], seed=seed)
        about = {"network": key, "rounds": len(loads)}
        for name, seconds in zip(names, (time.compute_seconds, time.communication_seconds), strict=False):
            found.append(Measurement(name=name, value=seconds, unit="seconds", n=len(loads), conditions=about))
        if math.isnan(time.added):
            found.append(not_applicable(names[2], "no client has computed", reason="no_records", **about))
        else:
            found.append(Measurement(name=names[2], value=time.added, n=len(loads), conditions=about))
    return found


def _load(each: RoundRecord, federation: Federation, *, clients: int, seed: int, number: int) -> RoundLoad | None:
    """Returns what each client of a round received, computed and sent; None if the record is not of these clients."""
    drawn = participants(federation, clients=clients, seed=seed, number=number)
    answered = [client for client in drawn.asked if str(client) not in each.failures]
    if len(answered) != each.answered or len(drawn.asked) + len(drawn.absent) != each.asked:
        return None
    n = len(answered)
    return RoundLoad(
        clients=answered,
        bytes_down=[round(each.bytes_down / len(drawn.asked))] * n if n else [],
        bytes_up=[round(each.bytes_up / n)] * n if n else [],
        compute_seconds=[each.slowest_seconds] * n,
    )
