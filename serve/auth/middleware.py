"""Authentication before a call takes a place, and the layers that Ray's proxies run.

Ray calls ``middlewares`` in its Python proxy, and in each replica behind HAProxy, where
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` is ``serve.auth.middleware:middlewares``. A replica whose process did not
run them applies them itself: ``Edge``.
"""

import logging
import math
import os
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth.jwt import JsonWebTokens, RefusedTokenError
from serve.auth.rates import Rates
from serve.auth.sessions import SECONDS, cookie_name, find_session, make_session
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity, StoredToken, TokenFile
from serve.limits import hosts
from serve.limits.connections import limit_connections
from serve.limits.middleware import BEHIND_PROXY, OPEN_PATHS, PASSED, Bodies, Front, holds, refuse
from serve.limits.settings import SECRET, Limits

logger = logging.getLogger(__name__)

CALLER = b"x-assay-caller"
"""Header by which the routes learn who calls: the name of the token."""
SCOPES = b"x-assay-scopes"
"""Header by which the routes learn what the caller may, separated by spaces."""

_CALLS = re.compile(r"[:/](predict|infer|explain|answer|certify)(?=[:/?]|$)")
_SCOPE_OF = {"predict": "predict", "infer": "predict", "explain": "explain", "answer": "explain", "certify": "certify"}
_BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/-]{1,8192}=*)")


def middlewares() -> list[Middleware]:
    """Returns the layers for Ray's proxies; the last is the outermost. Ray Serve calls this.

    Returns:
        Middlewares as Starlette has them.
    """
    limits = Limits.from_environment()
    limit_connections(limits)
    return [
        Middleware(Bodies, limits=limits),
        Middleware(Authentication, settings=AuthSettings.from_environment(), limits=limits),
        Middleware(Front, limits=limits),
    ]


class Edge:
    """Middleware of an application that applies the layers unless the process that took the call has.

    Args:
        app: the application.
        limits: settings; by default those of the environment.
        settings: of authentication; by default those of the environment.
    """

    def __init__(self, app: ASGIApp, limits: Limits | None = None, settings: AuthSettings | None = None) -> None:
        self._app = app
        self._secret = os.environ.get(SECRET, "").encode()
        limits = limits or Limits.from_environment()
        self._layers = Front(Authentication(Bodies(app, limits), settings, limits), limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and holds(scope["headers"], PASSED, self._secret):
            scope["headers"] = [header for header in scope["headers"] if header[0] != PASSED]
            await self._app(scope, receive, send)
        else:
            await self._layers(scope, receive, send)


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


class Authenticator:
    """Finds out who calls; also for calls that do not come by HTTP.

    Args:
        settings: who may call, and how often.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._tokens = TokenFile(settings.tokens) if settings.tokens else None
        self._jwt = JsonWebTokens(settings) if settings.jwks else None
        self.rates = Rates(settings.per_second, settings.burst)
        self.failures = Rates(settings.failures_per_second, 10 * settings.failures_per_second)
        if self._tokens is None and self._jwt is None and not settings.anyone:
            logger.error("nobody may call: ASSAY_SERVE_AUTH names neither tokens nor jwks")

    async def identity(self, authorization: str) -> Identity | None:
        """Returns who calls by the value of an Authorization header.

        Args:
            authorization: ``Bearer`` and the token.

        Returns:
            None if the token is not accepted.
        """
        found = _BEARER.fullmatch(authorization)
        if found is None:
            return None
        token = found[1]
        if self._jwt is not None and token.count(".") == 2:
            try:
                return await self._jwt.identity(token)
            except RefusedTokenError as error:
                logger.warning("a JSON web token was refused: %s", error)
                return None
        stored = self._tokens.find(token) if self._tokens is not None else None
        return stored.identity if stored is not None else None

    async def caller(self, scope: Scope) -> Identity | None:
        """Returns who makes a call of HTTP: by its Authorization header, or by the session of a browser.

        Args:
            scope: of ASGI.

        Returns:
            None if neither is accepted.
        """
        given = hosts.values(scope["headers"], b"authorization")
        if given:
            return await self.identity(given[0]) if len(given) == 1 else None
        # A browser names the page that makes a call; without that, a call with a cookie may be forged.
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and not hosts.values(scope["headers"], b"origin"):
            return None
        session = self._session(scope)
        return session.identity if session is not None else None

    def opened(self, scope: Scope) -> StoredToken | None:
        """Returns the token that the address of a page brings.

        Args:
            scope: of ASGI.

        Returns:
            None without a valid one.
        """
        given = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name == "token"]
        return self._tokens.find(given[0]) if self._tokens is not None and len(given) == 1 else None

    def _session(self, scope: Scope) -> StoredToken | None:
        name = cookie_name(next(iter(hosts.values(scope["headers"], b"host")), ""))
        try:
            cookies = SimpleCookie("; ".join(hosts.values(scope["headers"], b"cookie")))
        except CookieError:
            return None
        if name not in cookies or self._tokens is None:
            return None
        return find_session(cookies[name].value, self._tokens)


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
