"""Where the processes of Ray listen, as the kernel has it."""

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path


def addresses(root: int) -> list[str]:
    """Addresses at which a process and its descendants listen."""
    sockets = {link for pid in _family(root) for link in _links(pid)}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(_address(fields[1].split(":")[0]))
    return found


def _address(text: str) -> str:
    words = [socket.ntohl(int(text[at : at + 8], 16)) for at in range(0, len(text), 8)]
    if len(words) == 1:
        return str(IPv4Address(words[0]))
    address = IPv6Address(int("".join(f"{word:08x}" for word in words), 16))
    return str(address.ipv4_mapped or address)


def _family(root: int) -> set[str]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[stat.parent.name] = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
    family = {str(root)}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _links(pid: str) -> set[str]:
    try:
        return {str(link.readlink()) for link in Path("/proc", pid, "fd").iterdir()}
    except OSError:
        return set()
