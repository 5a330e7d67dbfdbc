"""Who may see the page: only who has its token, from this machine's own address, and from no other web page."""

import hashlib
import hmac
import json
import os
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.errors import UserError

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names by which a page of this machine may be asked for; DNS rebinding is refused by it."""
MOST_BYTES = 8 << 20
"""Greatest length of a request."""
FEWEST = 20
"""Least length of a token."""
VARIABLE = "ASSAY_DASHBOARD_TOKEN"
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""Hash of an empty text: plotly.js makes one empty style element, and adds its rules to it by script."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind} 'self'" for kind in ("script-src", "connect-src", "font-src", "worker-src")),
        f"style-src 'self' {_EMPTY}",
        "img-src 'self' data: blob:",
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors", "object-src")),
    )
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Headers of every answer."""


def token_of(place: Path, *, new: bool = False) -> str:
    """Returns the token of this user: that of the environment, or one that is stored and made once.

    It stays the same when the server starts again, so that open pages go on.

    Args:
        place: file in which it is stored, for this user alone.
        new: whether to replace a stored one; pages that were opened before then ask for the new address.

    Returns:
        The token.

    Raises:
        UserError: the token of the environment is too short to be safe.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if len(given) < FEWEST:
            message = f"{VARIABLE} has {len(given)} characters; give at least {FEWEST}, or leave it out"
            raise UserError(message, setting=VARIABLE, given=len(given), allowed=FEWEST)
        return given
    if place.exists() and not new:
        stored = place.read_text(encoding="ascii").strip()
        if len(stored) >= FEWEST:
            return stored
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = secrets.token_urlsafe(32)
    place.unlink(missing_ok=True)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token)
    return token


class Access:
    """Middleware that lets a request pass if its host, its origin and its token are right, and bounds its length.

    A page is opened with the token in its address; its answer sets a cookie, which later requests bring, and the page
    takes the token out of the address.

    Args:
        app: the application behind it.
        token: of the address.
        port: of the server, part of the cookie's name: cookies of one machine are shared by all its ports.
        hosts: names by which the server may be asked for, besides those of this machine.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, hosts: tuple[str, ...] = ()) -> None:
        self._app, self._token = app, token
        self._cookie = f"assay-dashboard-{port}"
        self._pass = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()
        self._hosts = {*LOCAL, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal, fresh = self._judged(scope, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_already = {name.lower() for name, _ in message.get("headers", [])}
                added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in set_already]
                if fresh:
                    value = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"
                    added.append((b"set-cookie", value.encode()))
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if refusal is not None:
            await _refuse(guarded, *refusal)
            return
        await self._app(scope, receive, guarded)

    def _judged(self, scope: Scope, headers: dict[str, str]) -> tuple[tuple[int, str] | None, bool]:
        """Returns why a request is refused, None if it is not; and whether it brought the token in its address."""
        refusal = self._wrong_place(scope, headers) or _wrong_form(scope["method"], headers)
        if refusal is not None:
            return refusal, False
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and asked and hmac.compare_digest(asked.encode(), self._token.encode()):
            return None, True
        if hmac.compare_digest(_cookie(headers.get("cookie", ""), self._cookie).encode(), self._pass.encode()):
            return None, False
        return (401, "open the page at the address that the server printed, with its token"), False

    def _wrong_place(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Returns why a request is refused that asks for another host, or that another page sent."""
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            return 403, "this page is for its own machine only; open it at the address that the server printed"
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope['scheme']}://{host}":
            return 403, "another web page asked for this; open the page itself"
        if scope["method"] == "POST" and origin is None:
            return 403, "a POST needs the header Origin of the page itself"
        return None


def _wrong_form(method: str, headers: dict[str, str]) -> tuple[int, str] | None:
    """Returns why a request is refused that would change something, or that is too long."""
    if method not in ("GET", "HEAD", "POST"):
        return 405, "only GET and POST"
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BYTES or "transfer-encoding" in headers:
        return 413, f"a request has at most {MOST_BYTES} bytes, and says how many"
    return None


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
