"""Refuses what would wait without an end for machines that never come, such as a replica with a GPU on CPUs alone."""

import time

from assay.cluster.resources import Asker, Reservation, described, living_nodes, node_types, refuse_impossible
from assay.cluster.waiting import EVERY, tell
from assay.errors import UserError

_LOOK = 1.0
"""Seconds between two looks at the nodes of the cluster."""


def require_room(wanted: Reservation, count: int, *, grows: bool, asker: Asker, seconds: float) -> None:
    """Returns as soon as the cluster has a node that can hold what is wanted, or its autoscaler can start one.

    Whether other jobs use that node now is not asked: they end.

    Args:
        wanted: by each of them.
        count: how many of them there are to be.
        grows: whether nodes may join the cluster; where none may, all of them must fit together.
        asker: for messages.
        seconds: to wait for such a node, or for the autoscaler to tell its types of nodes.

    Raises:
        UserError: no node can hold one, they do not fit together, or no node has come in time.
    """
    began = time.monotonic()
    next_message = began
    while True:
        nodes = living_nodes()
        refuse_impossible(wanted, nodes, grows=grows, asker=asker)
        fit = sum(wanted.fits(node) for node in nodes)
        if not grows and fit < count:
            raise UserError(
                f"{count} × {wanted} are wanted, and the cluster has room for {fit} ({described(nodes)}); "
                f"{asker.fewer_cpus}, {asker.fewer_gpus}, or ask for fewer",
                setting=asker.gpus if wanted.gpus else asker.cpus,
                given=count,
                allowed=fit,
            )
        # The types of nodes, where they are told, have one that is large enough: else it was refused.
        if fit or node_types() is not None:
            return
        waited = time.monotonic() - began
        if waited >= seconds:
            raise UserError(
                f"{asker.who} wants {wanted}, and in {seconds:g} s no machine has come that has room for it; the "
                f"cluster has {described(nodes)}. Add such a machine, {asker.fewer_cpus}, or {asker.fewer_gpus}",
                setting=asker.gpus if wanted.gpus else asker.cpus,
                given=wanted.gpus or wanted.cpus,
            )
        if time.monotonic() >= next_message:
            next_message += EVERY
            tell(
                f"waiting for a machine with {wanted}; the cluster has {described(nodes)}, and the wait ends in "
                f"{seconds - waited:.0f} s"
            )
        time.sleep(min(_LOOK, seconds - waited))
