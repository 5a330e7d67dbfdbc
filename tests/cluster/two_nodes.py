"""Ray on two nodes of this machine, of which one can be killed and another one added at a named moment.

    @pytest.fixture(scope="module")
    def nodes() -> Iterator[TwoNodes]:
        with two_nodes() as nodes:
            yield nodes

The driver is this process, on the first node. A file of tests that uses it must not use ``shared_ray``.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import ray
from ray.cluster_utils import Cluster

from assay.cluster.session import set_defaults

_ADDRESS = "127.0.0.2"
"""On the loopback interface. Ray replaces 127.0.0.1 by an address that others could reach, and would not find it."""
_MEMORY = 80_000_000
"""Bytes of the object store of each node."""


class TwoNodes:
    """A cluster of two nodes, each with some CPUs.

    Args:
        cluster: of Ray.
        cpus: of each node.
    """

    def __init__(self, cluster: Cluster, cpus: int) -> None:
        self._cluster, self._cpus = cluster, cpus
        self.second: Any = None
        """The node that can be killed; None while there is one node only."""

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return str(self._cluster.address)

    def add(self, **resources: Any) -> None:
        """Adds a node, and waits until it has joined. Any thread may call it.

        Args:
            resources: such as ``num_gpus``; the number of CPUs is that of the first node unless given.
        """
        # Ray sets a handler of signals for each node, which only the main thread can.
        main = threading.current_thread() is threading.main_thread()
        with contextlib.nullcontext() if main else mock.patch("ray._private.utils.set_sigterm_handler"):
            self.second = self._cluster.add_node(**{"num_cpus": self._cpus, **_ON_THIS_MACHINE, **resources})

    def kill(self, *, warned: bool = False) -> None:
        """Kills the second node with all its processes, as when a machine is lost.

        Args:
            warned: whether it is told to end, as by a cloud that takes a machine back, and so can say goodbye.
        """
        self._cluster.remove_node(self.second, allow_graceful=warned)
        self.second = None

    def alive(self) -> int:
        """Returns the number of nodes that the cluster believes to be alive.

        Returns:
            Their number.
        """
        return sum(node["Alive"] for node in ray.nodes())

    def wait_for(self, number: int, *, seconds: float = 60.0) -> None:
        """Waits until the cluster has noticed a loss or an addition.

        Args:
            number: of nodes that must be alive.
            seconds: after which it fails.
        """
        deadline = time.monotonic() + seconds
        while self.alive() != number:
            assert time.monotonic() < deadline, f"{self.alive()} nodes are alive, not {number}"
            time.sleep(0.1)


@contextmanager
def two_nodes(*, cpus: int = 1, first_cpus: int | None = None, second: bool = True) -> Iterator[TwoNodes]:
    """Starts two nodes on this machine and joins them; it takes about ten seconds.

    Args:
        cpus: of each node.
        first_cpus: of the node of the driver; 0 for a cluster whose head runs no work.
        second: whether to start the second node too.

    Returns:
        Context manager with the cluster.
    """
    set_defaults()
    ray.shutdown()
    head = {"num_cpus": cpus if first_cpus is None else first_cpus, "include_dashboard": False, **_ON_THIS_MACHINE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, _node_ip_address=_ADDRESS, log_to_driver=False, logging_level=logging.ERROR)
        nodes = TwoNodes(cluster, cpus)
        if second:
            nodes.add()
        yield nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


_ON_THIS_MACHINE = {"node_ip_address": _ADDRESS, "object_store_memory": _MEMORY}
