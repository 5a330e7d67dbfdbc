"""Who may call over gRPC: a rule that is given the caller's address and metadata, and one for this machine alone."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Protocol
from urllib.parse import unquote

Metadata = Sequence[tuple[str, str | bytes]]
"""What gRPC has in place of headers: names in lower case, such as ``authorization``, and values."""


class Refusal(Protocol):
    """Why a call is refused."""

    @property
    def status(self) -> int:
        """HTTP status that stands for it: 401, 403, 429 or 503."""

    @property
    def message(self) -> str:
        """What the caller is told."""


@dataclass(frozen=True)
class Allowed:
    """Permission of a caller that is known by a name."""

    name: str


Judgement = Refusal | Allowed | None
"""None allows a caller without a name."""
Authorise = Callable[[Metadata, str], Awaitable[Judgement] | Judgement]
"""Rule that is asked before each call is read: ``rule(metadata, peer)`` returns why it is refused, or who calls."""


class OtherMachine:
    """Refusal of calls from other machines."""

    status = 403
    message = "this model is served on its own machine only; serve it with public=true to let others call it"


def anyone(metadata: Metadata, peer: str) -> Refusal | None:
    """Refuses nobody.

    Args:
        metadata: of the call.
        peer: the caller.

    Returns:
        None.
    """
    return None


def loopback_only(metadata: Metadata, peer: str) -> Refusal | None:
    """Refuses calls from other machines.

    Args:
        metadata: of the call.
        peer: the caller, as gRPC writes it: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000`` or ``unix:``.

    Returns:
        The refusal; None for calls from this machine.
    """
    return None if peer.startswith("unix:") or _is_loopback(address_of(peer)) else OtherMachine()


def address_of(peer: str) -> str:
    """Returns the address of a caller.

    Args:
        peer: as gRPC writes it.

    Returns:
        An address of IPv4 or IPv6; empty for what has none.
    """
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return ((found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found).is_loopback
