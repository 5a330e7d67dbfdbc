"""Settings of the limits, which the proxies read from one environment variable.

Imports nothing but the standard library: the wrapper of HAProxy reads them each time that a configuration changes.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

VARIABLE = "ASSAY_SERVE_LIMITS"
"""Environment variable with the settings as a JSON object."""
SECRET = "ASSAY_PROXY_SECRET"
"""Environment variable with the secret by which replicas know that a call came through HAProxy."""
KINDS = ("front", "predict", "explain", "certify")
"""Deployments that have a queue of their own."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of what callers may send, and how much of it at a time."""

    body: int = 1 << 20
    """Greatest length of a body in bytes."""
    header_bytes: int = 32 << 10
    """Greatest length of all headers of a call together, in bytes."""
    headers: int = 100
    """Greatest number of headers."""
    upload_seconds: int = 10
    """Seconds in which the headers must have arrived, and then the body."""
    answer_seconds: int = 60
    """Seconds after which a call is given up."""
    idle_seconds: int = 30
    """Seconds after which a connection without a call, or whose caller does not read the answer, is closed."""
    ongoing: Mapping[str, int] = field(default_factory=lambda: {"": 8})
    """Calls that a replica works on at once, by kind of deployment; the key ``""`` holds for the others."""
    queued: Mapping[str, int] = field(default_factory=lambda: {"": 32})
    """Calls that wait for a replica, by kind of deployment; the next is refused at once."""
    connections: int = 1024
    """Greatest number of open connections."""
    connections_per_address: int = 768
    """Greatest number of open connections from one address. A reverse proxy counts as one address."""
    long_bodies: int = 128
    """Greatest number of calls at once whose body is longer than 64 KiB; bounds the memory of the proxy."""
    long_bodies_per_address: int = 96
    """Greatest number of these calls from one address: so nobody who sends slowly keeps all others out."""
    requests_per_second: int = 0
    """Greatest rate of calls from one address, as a mean over ten seconds; 0 sets no limit."""
    retry_after: int = 1
    """Seconds after which a caller that was refused with status 429 or 503 may try again."""
    public: bool = False
    """Whether calls from other machines are allowed."""
    hosts: tuple[str, ...] = ()
    """Names under which a public service is called; empty allows every name."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies whose X-Forwarded-For is believed."""
    metrics_host: str = "127.0.0.1"
    """Address at which HAProxy offers its own metrics."""
    certificate: str = ""
    """File with certificate and key (PEM) for TLS; empty serves plain HTTP."""
    client_authorities: str = ""
    """File with the authorities (PEM) whose client certificates are required; empty requires none."""

    def __post_init__(self) -> None:
        for name in ("body", "header_bytes", "headers", "upload_seconds", "answer_seconds", "idle_seconds"):
            _require_count(name, getattr(self, name))
        for name in ("connections", "connections_per_address", "long_bodies", "long_bodies_per_address", "retry_after"):
            _require_count(name, getattr(self, name))
        for name in ("ongoing", "queued"):
            given = getattr(self, name)
            if "" not in given or not set(given) <= {"", *KINDS}:
                raise ValueError(f'{name}: {given!r}: give "" for all and any of {", ".join(KINDS)}')
            for kind, count in given.items():
                _require_count(f"{name}[{kind!r}]", count)
        if self.client_authorities and not self.certificate:
            raise ValueError("client_authorities needs a certificate: give certificate too")

    def ongoing_of(self, kind: str) -> int:
        """Returns the number of calls that a replica of a kind works on at once.

        Args:
            kind: of ``KINDS``.

        Returns:
            Number of calls.
        """
        return self.ongoing.get(kind, self.ongoing[""])

    def queued_of(self, kind: str) -> int:
        """Returns the number of calls that wait for replicas of a kind.

        Args:
            kind: of ``KINDS``.

        Returns:
            Number of calls.
        """
        return self.queued.get(kind, self.queued[""])

    def to_json(self) -> str:
        """Returns the value of the environment variable that holds these settings."""
        return json.dumps({**asdict(self), "ongoing": dict(self.ongoing), "queued": dict(self.queued)})

    @classmethod
    def from_json(cls, text: str) -> "Limits":
        """Reads settings.

        Args:
            text: JSON object; an absent setting takes its default.

        Returns:
            The settings.

        Raises:
            ValueError: the text is no JSON object, or names an unknown setting or one out of range.
        """
        given: Any = json.loads(text)
        known = {one.name for one in fields(cls)}
        if not isinstance(given, dict) or not set(given) <= known:
            raise ValueError(f"{VARIABLE} must be a JSON object with keys among {', '.join(sorted(known))}")
        for name in ("hosts", "trusted_proxies"):
            given[name] = tuple(given.get(name, ()))
        return cls(**given)

    @classmethod
    def from_environment(cls) -> "Limits":
        """Returns the settings of this process: those of the environment variable, or the defaults."""
        return cls.from_json(os.environ.get(VARIABLE) or "{}")


def _require_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
