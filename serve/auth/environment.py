"""Environment variables by which a service on this machine gets its limits and its tokens."""

import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path

from assay.errors import UserError
from serve import limits as limits_package
from serve.auth import settings as auth
from serve.auth.settings import AuthSettings
from serve.limits.settings import SECRET, VARIABLE, Limits
from serve.limits.taken import free_ports

_LONGEST_FOLDER = 32
"""Greatest length of the folder's path: that of a socket in it has at most 107 characters, and Ray adds 75."""


def environment(limits: Limits, settings: AuthSettings, *, folder: Path, haproxy: bool) -> dict[str, str]:
    """Returns the variables to set before Ray starts; its processes inherit them.

    Args:
        limits: of what callers may send.
        settings: who may call.
        folder: of this start, which only this user can open, with a short path; HAProxy keeps its files there.
        haproxy: whether HAProxy takes the calls, or Ray's Python proxy.

    Returns:
        Values by name.

    Raises:
        UserError: others can open the folder, or its path is too long.
    """
    if limits.certificate and not haproxy:
        raise UserError(
            "the certificate of ASSAY_SERVE_LIMITS is used by HAProxy, and Ray's Python proxy would answer without "
            "encryption: leave --python-proxy out, install HAProxy, or end TLS in a proxy before this one",
            setting="certificate",
        )
    if settings.jwks and not settings.used_ids:
        # Else each process would accept a token once.
        settings = replace(settings, used_ids=str(folder / "used"))
    found = {
        VARIABLE: limits.to_json(),
        auth.VARIABLE: settings.to_json(),
        SECRET: secrets.token_urlsafe(32),
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.auth.middleware:middlewares",
        # uvicorn would believe what callers on this machine say of their address.
        "FORWARDED_ALLOW_IPS": "",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy else "0",
    }
    return {**found, **_haproxy(folder)} if haproxy else found


def _haproxy(folder: Path) -> dict[str, str]:
    status = folder.stat()
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise UserError(f"{str(folder)!r} holds the secret of the proxy, and others can open it: chmod 700 it")
    if len(str(folder)) > _LONGEST_FOLDER:
        raise UserError(
            f"the path {str(folder)!r} is too long for the sockets of HAProxy: at most {_LONGEST_FOLDER} characters; "
            "set TMPDIR to a shorter one, such as /tmp"
        )
    metrics, stats, fallback, grpc = map(str, free_ports(4))
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(str(limits_package.__file__)).with_name("haproxy.sh")),
        "ASSAY_PYTHON": sys.executable,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # Their usual numbers may be those of another service on this machine.
        "RAY_SERVE_HAPROXY_METRICS_PORT": metrics,
        "RAY_SERVE_HAPROXY_STATS_PORT": stats,
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": fallback,
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": grpc,
    }
