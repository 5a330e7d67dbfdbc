"""Starts the gRPC server of the Open Inference Protocol."""

from dataclasses import dataclass

import grpc

from assay.errors import UserError
from serve.audit_log.decision import Hook
from serve.grpc_.authorising import Authorise, loopback_only
from serve.grpc_.service import Observe, Rules, handlers
from serve.repository.loaded import Loaded

MOST_BYTES = 1 << 20
"""Greatest length of a request; a longer one ends with RESOURCE_EXHAUSTED."""
MOST_CALLS = 128
"""Greatest number of calls at once; a further one ends with RESOURCE_EXHAUSTED."""
LONGEST = 60.0
"""Seconds after which a call ends."""
_MOST_STREAMS = 64
_MOST_CONNECTIONS = 1024
_MOST_METADATA = 16 << 10
_IDLE, _AGE, _GRACE = 300_000, 600_000, 60_000
"""Milliseconds after which a connection is closed: without calls, with calls, and for the calls that are left then."""
OPTIONS = [
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_metadata_size", _MOST_METADATA),
    ("grpc.absolute_max_metadata_size", _MOST_METADATA),
    ("grpc.max_concurrent_streams", _MOST_STREAMS),
    ("grpc.max_allowed_incoming_connections", _MOST_CONNECTIONS),
    ("grpc.max_connection_idle_ms", _IDLE),
    ("grpc.max_connection_age_ms", _AGE),
    ("grpc.max_connection_age_grace_ms", _GRACE),
]


@dataclass(frozen=True)
class GrpcServer:
    """A running server.

    Attributes:
        port: at which it listens.
    """

    port: int
    _server: grpc.aio.Server

    async def stop(self, grace: float = 5.0) -> None:
        """Ends the server.

        Args:
            grace: seconds that calls have left to end.
        """
        await self._server.stop(grace)


async def start_grpc(
    loaded: Loaded,
    host: str,
    port: int,
    authorise: Authorise = loopback_only,
    *,
    credentials: grpc.ServerCredentials | None = None,
    observe: Observe | None = None,
    log: Hook | None = None,
    shared: bool = False,
) -> GrpcServer:
    """Starts the server in the running event loop, which must be that of the REST calls: both share batches.

    Args:
        loaded: the models, the same object that the REST calls have.
        host: address of an interface.
        port: 0 takes a free one.
        authorise: rule that is asked before each call; by default this machine alone may call.
        credentials: certificates of TLS; by default none.
        observe: told of each call.
        log: takes what is answered, and the status of what is refused, such as ``DecisionLog.record``.
        shared: whether other servers of this user may listen on the same port, as replicas do; they answer in turn.

    Returns:
        The server.

    Raises:
        UserError: the port is taken.
    """
    server = grpc.aio.server(options=[*OPTIONS, ("grpc.so_reuseport", int(shared))], maximum_concurrent_rpcs=MOST_CALLS)
    rules = Rules(loaded, authorise, observe=observe, log=log, longest=LONGEST)
    server.add_generic_rpc_handlers((handlers(rules),))
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    except RuntimeError:
        raise UserError(
            f"gRPC cannot listen on {place}: another program does, or this machine has no such address; choose "
            "another port",
            setting="grpc_port",
            given=port,
        ) from None
    await server.start()
    return GrpcServer(bound, server)
