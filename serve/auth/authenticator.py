"""Finds out who calls: by a token, a JSON web token, or the session of a browser."""

import logging
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.types import Scope

from serve.auth.jwt import JsonWebTokens, RefusedTokenError
from serve.auth.rates import Rates
from serve.auth.sessions import cookie_name, find_session
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity, StoredToken, TokenFile
from serve.limits import hosts
from serve.limits.admission import CALL

logger = logging.getLogger(__name__)

_BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/-]{1,8192}=*)")


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

    async def identity(self, authorization: str, call: str = "") -> Identity | None:
        """Returns who calls by the value of an Authorization header.

        Args:
            authorization: ``Bearer`` and the token.
            call: word of HAProxy for this call, by which one that it sends a second time is known.

        Returns:
            None if the token is not accepted.
        """
        found = _BEARER.fullmatch(authorization)
        if found is None:
            return None
        token = found[1]
        if self._jwt is not None and token.count(".") == 2:
            try:
                return await self._jwt.identity(token, call)
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
            return await self.identity(given[0], scope.get(CALL, "")) if len(given) == 1 else None
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
