"""Sessions of browsers: a signed cookie, made of a token that an address brought, in which the token is not."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

from serve.auth.tokens import StoredToken, TokenFile

SECONDS = 12 * 3600
"""Length of a session."""


def cookie_name(host: str) -> str:
    """Returns the name of the cookie. Browsers send cookies to all ports of a host, so that each service has its own.

    Args:
        host: Host header, which ends with the port if that is not the usual one.
    """
    port = host.rpartition(":")[2]
    return f"assay_session_{port}" if port.isdigit() else "assay_session"


def make_session(token: StoredToken, *, now: float | None = None) -> str:
    """Makes the value of a session's cookie.

    Args:
        token: that opens the session; once it is revoked, so are its sessions.
        now: time in seconds since 1970; by default the present.

    Returns:
        Text without special characters.
    """
    content = f"{int(time.time() if now is None else now) + SECONDS}.{_short(token)}"
    return f"{content}.{_signature(token, content)}"


def find_session(value: str, tokens: TokenFile, *, now: float | None = None) -> StoredToken | None:
    """Finds the token of a session.

    Args:
        value: of the cookie.
        tokens: of the service.
        now: time in seconds since 1970; by default the present.

    Returns:
        The token; None if the session, or the token, is not valid any more.
    """
    at = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    end, _, rest = value.partition(".")
    name, _, signature = rest.partition(".")
    if not end.isdigit() or len(end) > 12 or int(end) < at.timestamp():
        return None
    found = None
    for token in tokens.tokens():
        if not token.is_valid(at):
            continue
        signed = hmac.compare_digest(_signature(token, f"{end}.{name}").encode(), signature.encode("utf-8", "replace"))
        if signed and hmac.compare_digest(_short(token).encode(), name.encode("utf-8", "replace")):
            found = token
    return found


def _short(token: StoredToken) -> str:
    return hashlib.sha256(f"name of {token.hash}".encode()).hexdigest()[:16]


def _signature(token: StoredToken, content: str) -> str:
    # Only those who can read the file of tokens know its hash.
    key = hmac.new(token.hash.encode(), b"assay session", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode().rstrip("=")
