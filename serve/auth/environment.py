"""Environment variables by which all processes of a service get its limits and its tokens.

On this machine ``environment`` makes them. On a cluster each machine has them before Ray starts there (on Kubernetes by
``k8s/base/serving.env``), and ``require_shared`` refuses a service whose processes lack one.
"""

import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from assay.errors import UserError
from serve import limits as limits_package
from serve.auth import settings as auth
from serve.auth.settings import AuthSettings
from serve.limits.ports import free_ports
from serve.limits.settings import SECRET, VARIABLE, Limits

SCRIPT = Path(str(limits_package.__file__)).with_name("haproxy.sh")
"""What Ray starts as HAProxy."""
CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_ALLOWED = "FORWARDED_ALLOW_IPS"
_LONGEST_FOLDER = 32
"""Greatest length of the folder's path: that of a socket in it has at most 107 characters, and Ray adds 75."""


def shared(limits: Limits, settings: AuthSettings, *, haproxy: bool, script: Path = SCRIPT) -> dict[str, str]:
    """Returns the variables that are the same on all machines of a service. The secret is not among them.

    Args:
        limits: of what callers may send.
        settings: who may call.
        haproxy: whether HAProxy takes the calls, or Ray's Python proxy.
        script: path of ``haproxy.sh`` on these machines.

    Returns:
        Values by name.
    """
    return {
        VARIABLE: limits.to_json(),
        auth.VARIABLE: settings.to_json(),
        CALLBACK: "serve.auth.layers:middlewares",
        # uvicorn would believe what callers on this machine say of their address.
        _ALLOWED: "",
        HAPROXY: "1" if haproxy else "0",
        **({_BINARY: str(script)} if haproxy else {}),
    }


def require_shared(given: Mapping[str, str], settings: AuthSettings, *, public: bool) -> None:
    """Refuses a service on a cluster whose processes lack what makes limits and tokens hold.

    Args:
        given: environment of a process.
        settings: who may call, as the application was told.
        public: whether calls from other machines are allowed, as the application was told.

    Raises:
        UserError: a variable is missing, or says something else than the settings of the application.
    """
    if given.get(HAPROXY) not in ("0", "1"):
        raise _not_shared(HAPROXY, f"must be '1' or '0', and is {_shown(given.get(HAPROXY))}")
    needed = shared(Limits(), settings, haproxy=given[HAPROXY] == "1")
    for name in (CALLBACK, _ALLOWED, *([_BINARY] if _BINARY in needed else [])):
        if given.get(name) != needed[name]:
            raise _not_shared(name, f"must be {needed[name]!r}, and is {_shown(given.get(name))}")
    if VARIABLE not in given:
        raise _not_shared(VARIABLE, "must say what callers may send")
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", given.get(SECRET, "")):
        # Its value is shown to nobody.
        raise _not_shared(SECRET, "must be a secret of at least 16 letters, digits, - or _, the same on all machines")
    limits = Limits.from_json(given[VARIABLE] or "{}")
    _require_haproxy_for_tls(limits, haproxy=given[HAPROXY] == "1")
    if limits.public != public:
        raise _disagree(VARIABLE, "public", limits.public, public)
    if auth.VARIABLE not in given:
        raise _not_shared(auth.VARIABLE, "must say who may call")
    there = AuthSettings.from_json(given[auth.VARIABLE] or "{}")
    for one in fields(AuthSettings):
        if getattr(there, one.name) != getattr(settings, one.name):
            raise _disagree(auth.VARIABLE, one.name, getattr(there, one.name), getattr(settings, one.name))
    if settings.jwks and settings.single_use and not settings.used_ids:
        # Each replica would accept a token once.
        raise UserError(
            f"{auth.VARIABLE} accepts each JSON web token once: give used_ids, a folder that all machines share, or "
            "single_use: false, with which a token is accepted until it expires",
            setting="used_ids",
        )


def _not_shared(name: str, what: str) -> UserError:
    return UserError(
        f"the environment variable {name} {what}; without it, limits and tokens would not hold before a call is "
        "queued: set it on every machine before Ray starts there, as k8s/base/serving.env and "
        "k8s/README.md say",
        setting=name,
    )


def _disagree(variable: str, name: str, there: Any, here: Any) -> UserError:
    return UserError(
        f"the environment variable {variable} says {name}={json.dumps(there)}, the application {name}="
        f"{json.dumps(here)}: write the same in both, or leave it out of the application",
        setting=variable,
        given=there,
    )


def _shown(value: str | None) -> str:
    return "not set" if value is None else repr(value)


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
    _require_haproxy_for_tls(limits, haproxy=haproxy)
    if settings.jwks and not settings.used_ids:
        # Else each process would accept a token once.
        settings = replace(settings, used_ids=str(folder / "used"))
    variables = {**shared(limits, settings, haproxy=haproxy), SECRET: secrets.token_urlsafe(32)}
    return {**variables, **_haproxy(folder)} if haproxy else variables


def _require_haproxy_for_tls(limits: Limits, *, haproxy: bool) -> None:
    """Refuses certificates that nothing would use."""
    for name in ("certificate", "client_authorities"):
        if getattr(limits, name) and not haproxy:
            raise UserError(
                f"{name} of ASSAY_SERVE_LIMITS is used by HAProxy, and Ray's Python proxy would answer without "
                "encryption: leave --python-proxy out, install HAProxy, or end TLS in a proxy before this one",
                setting=name,
            )


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
