"""Lets calls with a valid token pass, as often as it may be used, before a call takes a place."""

import math
import re
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth.authenticator import Authenticator
from serve.auth.rates import Rates
from serve.auth.sessions import SECONDS, cookie_name, make_session
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity, StoredToken
from serve.limits import hosts
from serve.limits.admission import BEHIND_PROXY, OPEN_PATHS
from serve.limits.error_form import refuse
from serve.limits.settings import Limits

CALLER = b"x-assay-caller"
"""Header by which the routes learn who calls: the name of the token."""
SCOPES = b"x-assay-scopes"
"""Header by which the routes learn what the caller may, separated by spaces."""

_CALLS = re.compile(r"[:/](predict|infer|explain|answer|certify)(?=[:/?]|$)")
_SCOPE_OF = {"predict": "predict", "infer": "predict", "explain": "explain", "answer": "explain", "certify": "certify"}


class Authentication:
    """Middleware that lets calls with a valid token pass, as often as it may be used.

    Args:
        app: the application behind it.
        settings: by default those of the environment.
        limits: by default those of the environment.
    """

    def __init__(self, app: ASGIApp, settings: AuthSettings | None = None, limits: Limits | None = None) -> None:
        self._app = app
        settings = settings or AuthSettings.from_environment()
        self._anyone = settings.anyone
        self._authenticator = Authenticator(settings)
        per_second = (limits or Limits.from_environment()).requests_per_second
        self._addresses = Rates(per_second, 10 * per_second) if per_second else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else "unknown"
        # HAProxy has counted the calls of an address already, for all replicas together.
        if self._addresses is not None and not scope.get(BEHIND_PROXY) and (wait := self._addresses.wait(address)):
            await refuse(send, 429, "too many calls from this address", retry_after=math.ceil(wait))
        elif self._anyone:
            await self._app(scope, receive, send)
        elif wants_page(scope) and (opened := self._authenticator.opened(scope)):
            await _open_session(scope, send, opened)
        elif (who := await self._authenticator.caller(scope)) is None:
            await _refuse_stranger(send, self._authenticator.failures.wait(address))
        elif not who.may(needed := scope_of(scope["path"], scope["method"])):
            await refuse(send, 403, f"this token does not allow {needed}; ask for one with the scope {needed}")
        elif wait := self._authenticator.rates.wait(who.name):
            await refuse(send, 429, "this token makes too many calls", retry_after=math.ceil(wait))
        else:
            _name_caller(scope, who)
            await self._app(scope, receive, send)


def scope_of(path: str, method: str) -> str:
    """Returns the scope that a call needs.

    Args:
        path: of the call.
        method: of HTTP.

    Returns:
        One of ``SCOPES``; empty for what every caller with a token may read.
    """
    if method in ("GET", "HEAD") or path.rstrip("/").endswith("/v2/repository/index"):
        return ""
    found = _CALLS.findall(path)
    if found and "/repository/" not in path:
        return _SCOPE_OF[found[-1]]
    return "admin"


def wants_page(scope: Scope) -> bool:
    """Returns whether a call is one of a browser for a page."""
    accepted = ",".join(hosts.values(scope["headers"], b"accept"))
    return scope["method"] == "GET" and "text/html" in accepted


def without_token(query: bytes) -> bytes:
    """Removes the parameter ``token`` from a query, so that it gets into no log.

    Args:
        query: as ASGI has it.

    Returns:
        The query; unchanged if it has no such parameter.
    """
    if not query:
        return query
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    kept = [(name, value) for name, value in given if name != "token"]
    return query if len(kept) == len(given) else urlencode(kept).encode()


def _name_caller(scope: Scope, who: Identity) -> None:
    """Replaces what a caller proved itself with by its name, so that no token gets into the routes and their logs."""
    scope["headers"] = [
        *((name, value) for name, value in scope["headers"] if name not in (b"authorization", b"cookie")),
        (CALLER, who.name.encode("latin-1", "replace")),
        (SCOPES, " ".join(sorted(who.scopes)).encode()),
    ]
    scope["query_string"] = without_token(scope["query_string"])


async def _open_session(scope: Scope, send: Send, token: StoredToken) -> None:
    """Sends the browser to the same page without the token, with a cookie."""
    host = next(iter(hosts.values(scope["headers"], b"host")), "")
    query = without_token(scope["query_string"]).decode("latin-1")
    path = "/" + scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/")
    cookie = f"{cookie_name(host)}={make_session(token)}; Max-Age={SECONDS}; Path=/; HttpOnly; SameSite=Strict"
    headers = [
        (b"location", (path + (f"?{query}" if query else "")).encode("latin-1")),
        (b"set-cookie", (cookie + ("; Secure" if scope.get("scheme") == "https" else "")).encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse_stranger(send: Send, wait: float) -> None:
    """Refuses a call without a valid token; all are answered the same, whatever is wrong with it."""
    if wait:
        await refuse(send, 429, "too many calls without a valid token", retry_after=math.ceil(wait))
    else:
        await refuse(send, 401)
