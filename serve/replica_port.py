"""The port by which replicas of Ray Serve call each other, on this machine's loopback interface where Ray is there.

Each replica offers it, on all interfaces, and unpickles what comes: whoever in the network has Ray's token may run code
there, and anyone where Ray demands none. Ray 2.60 has no option for its address.
"""

from typing import Any

import ray
from ray.serve._private import replica

_EVERYWHERE, _HERE = "[::]:0", "127.0.0.1:0"


def bind_here() -> None:
    """Makes a replica that is starting in this process offer the port on the loopback interface, if Ray runs there.

    On a cluster other machines call it, and the network policy of ``k8s/`` says which.
    """
    if ray.util.get_node_ip_address() != "127.0.0.1":
        return
    add_port = replica.add_port_to_grpc_server

    def add(server: Any, address: str) -> Any:
        return add_port(server, _HERE if address == _EVERYWHERE else address)

    replica.add_port_to_grpc_server = add
