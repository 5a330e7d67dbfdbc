"""Judges for whom a call is, and from where it comes: Host, Origin and the address of the caller.

A web page of a stranger may call a service on this machine (by fetch, or by a name that it lets point here). Such a
call is known by its Host, Origin or Sec-Fetch-Site header, and refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from serve.limits.settings import Limits

Headers = Sequence[tuple[bytes, bytes]]
"""Headers as ASGI has them: names in lower case."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@]+)")
_PORTS = {"http": 80, "https": 443}
_KNOWN = 64
"""Hosts and addresses whose meaning is remembered: most calls repeat them. Headers are at most 32 KiB long."""


@dataclass(frozen=True)
class Refusal:
    """Why a call is refused."""

    status: int
    message: str


def values(headers: Headers, name: bytes) -> list[str]:
    """Returns all values of a header.

    Args:
        headers: of a call.
        name: in lower case.

    Returns:
        Values, in their order.
    """
    return [value.decode("latin-1").strip() for key, value in headers if key == name]


@lru_cache(_KNOWN)
def split_host(given: str) -> tuple[str, int | None] | None:
    """Splits a Host header.

    Args:
        given: value of the header.

    Returns:
        Name in lower case, without brackets and without a dot at its end, and the port; None if it is malformed.
    """
    found = _HOST.fullmatch(given)
    if found is None:
        return None
    name, port = found["name"].lower(), found["port"]
    if name.startswith("["):
        name = name[1:-1]
        if _address(name) is None:
            return None
    if port is not None and not 0 < int(port) < 65536:
        return None
    return name.removesuffix("."), None if port is None else int(port)


@lru_cache(_KNOWN)
def is_loopback(address: str) -> bool:
    """Returns whether an address is one of this machine's loopback interface.

    Args:
        address: IPv4 or IPv6; a mapped address, ``::ffff:127.0.0.1``, counts as what it stands for.

    Returns:
        False for what is no address.
    """
    found = _address(address)
    return found is not None and found.is_loopback


def judge(headers: Headers, *, method: str, scheme: str, client: str | None, limits: Limits) -> Refusal | None:
    """Judges whether a call may come from its caller, to this host.

    Args:
        headers: of the call.
        method: HTTP method.
        scheme: ``http`` or ``https``, as callers see it.
        client: address of the caller; None if it is not known for sure.
        limits: settings.

    Returns:
        Why the call is refused; None if it is allowed.
    """
    hosts = values(headers, b"host")
    host = split_host(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return Refusal(400, "the request must have one Host header, as name or name:port")
    here = is_loopback(client or "") and (host[0] == "localhost" or is_loopback(host[0]))
    if not here and not limits.public:
        why = "this model is served on its own machine only; serve it with public=true to let others call it"
        return Refusal(403, why)
    if not here and limits.hosts and host[0] not in {name.lower().removesuffix(".") for name in limits.hosts}:
        return Refusal(403, "this service is not called by this host name; allow it by the setting hosts")
    if _is_from_another_page(headers, method, scheme, host):
        return Refusal(403, "web pages of other sites may not call this service")
    return None


def _is_from_another_page(headers: Headers, method: str, scheme: str, host: tuple[str, int | None]) -> bool:
    """Returns whether the page of another site makes the call; following a link to this one is allowed."""
    origins = values(headers, b"origin")
    if origins:
        found = _ORIGIN.fullmatch(origins[0])
        origin = split_host(found["host"]) if found else None
        if len(origins) > 1 or found is None or origin is None:
            return True
        ports = origin[1] or _PORTS[found["scheme"]], host[1] or _PORTS.get(scheme, 80)
        # Behind a proxy that ends TLS, the scheme here is not that of the page: then both ports are the usual ones.
        usual = origin[1] is None and host[1] is None
        return origin[0] != host[0] or not (usual or ports[0] == ports[1])
    sites = values(headers, b"sec-fetch-site")
    follows_link = method in ("GET", "HEAD") and values(headers, b"sec-fetch-mode") == ["navigate"]
    return bool(sites) and not follows_link and sites not in (["same-origin"], ["none"])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
