"""A port is free, or the user learns what to do."""

import socket
from collections.abc import Iterator

import pytest

from assay.errors import UserError
from serve.limits.ports import free_ports, require_free


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port at which a server listens that would share it, as Ray's proxy does."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((request.param, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_would_be_shared_is_refused(taken: int) -> None:
    """Case 42."""
    with pytest.raises(
        UserError, match=rf"port {taken} of 127.0.0.1 cannot be used: Address already in use. If another"
    ):
        require_free(taken)


def test_a_free_port_is_accepted_and_stays_free() -> None:
    (port,) = free_ports(1)
    require_free(port)
    require_free(port)


def test_the_port_of_a_service_that_has_ended_is_free() -> None:
    """Its closed connections linger for a minute."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    require_free(port)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5
