"""Ports: whether one is taken before Serve starts, and free ones for what needs no fixed number."""

import socket
from contextlib import ExitStack, closing

from assay.errors import UserError


def require_free(port: int, host: str = "127.0.0.1", *, setting: str = "port") -> None:
    """Raises an error if another server listens on a port.

    Ray's proxy shares its port with whoever else allows it (SO_REUSEPORT), so that two services would answer in turn.

    Args:
        port: the port.
        host: address at which the service will listen.
        setting: that gives the port.

    Raises:
        UserError: the port is taken, or this user may not use it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As servers do; closed connections of an ended service do not count, and one that listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except PermissionError:
            raise UserError(
                f"port {port} of {host} is reserved for the system's administrator; choose one from 1024 by {setting}=",
                setting=setting,
                given=port,
            ) from None
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used: {error.strerror}. If another service runs there, end it, or "
                f"choose another port by {setting}=",
                setting=setting,
                given=port,
            ) from None


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Returns ports that nobody uses at this moment.

    Args:
        count: how many.
        host: address at which they are free.

    Returns:
        Different ports.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket(family, socket.SOCK_STREAM))) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
