"""JSON web tokens (RFC 7519) of other systems, checked with the public keys that their issuer publishes.

Accepted are signatures by asymmetric keys only: with a shared secret, whoever checks a token could make one. The
header of a token chooses among the keys of the set that this service was given, by its ``kid``, and nothing else: an
address in it (``jku``, ``x5u``) or a key (``jwk``) is ignored.
"""

import asyncio
import hashlib
import json
import logging
import os
import re
import secrets
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from assay.errors import UserError
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that are accepted."""
LEEWAY = 30
"""Seconds by which clocks may differ."""
LONGEST = 24 * 3600
"""Greatest lifetime of a token in seconds: a stolen one ends by itself."""
_MOST_BYTES = 1 << 20
_AGAIN = 60.0
"""Least seconds between two reads of the keys."""
_KEPT = 600.0
"""Seconds after which keys are read again, so that a withdrawn one ends."""
_LEAST_BITS = 2048
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)
_NOTED = re.compile(r"[0-9a-f]{64}|\.\d+\.[0-9a-f]{16}")
"""Names of the files that note a used id, and of those that are being written."""
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class RefusedTokenError(Exception):
    """A token is not accepted. The reason is for the log only, and repeats nothing of the token."""


@dataclass(frozen=True)
class PublicKey:
    """A public key of a set, and the algorithm that the set names for it; empty: it names none."""

    key: jwt.PyJWK
    algorithm: str

    def may_check(self, algorithm: str) -> bool:
        """Returns whether the key is one for an algorithm."""
        return self.key.key_type == _KEY_TYPES[algorithm[:2]] and self.algorithm in (algorithm, "")


class KeySet:
    """Public keys by their ids, from a file or an address.

    Args:
        place: file, or https address; http is allowed on this machine.

    Raises:
        UserError: the address is neither.
    """

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme and parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise UserError(f"jwks: keys come from a file or by https, not from {place!r}", setting="jwks", given=place)
        self._place, self._remote = place, bool(parts.scheme)
        self._keys: Mapping[str, PublicKey] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> "PublicKey":
        """Returns the key of an id.

        Args:
            kid: id that a token names.

        Raises:
            RefusedTokenError: the set has no such key.
        """
        age = time.monotonic() - self._read_at
        if age > _KEPT or (kid not in self._keys and age > _AGAIN):
            async with self._lock:
                if time.monotonic() - self._read_at > _AGAIN:
                    await self._read()
        if kid not in self._keys:
            raise RefusedTokenError("its key is not in the set")
        return self._keys[kid]

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        try:
            content = await asyncio.to_thread(_fetch if self._remote else _content, self._place)
            self._keys = _keys_of(json.loads(content))
        except (OSError, HTTPException, LookupError, ValueError, TypeError, AttributeError) as error:
            # The last keys stay: an outage of the issuer must not stop the service.
            logger.error("the keys of %s cannot be read: %s", self._place, type(error).__name__)


class JsonWebTokens:
    """Checks JSON web tokens.

    Args:
        settings: with ``jwks``, ``issuer`` and ``audience``.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._keys = KeySet(settings.jwks)
        self._used = UsedIds(settings.used_ids)

    async def identity(self, token: str, call: str = "") -> Identity:
        """Checks a token.

        Args:
            token: as sent.
            call: word by which a proxy knows the call: it may send one to a second replica after the first has died.

        Returns:
            Who calls.

        Raises:
            RefusedTokenError: the token is not accepted.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS or "crit" in header or not isinstance(kid, str):
                raise RefusedTokenError("its algorithm is not allowed, or its header is not")
            key = await self._keys.key(kid)
            if not key.may_check(algorithm):
                raise RefusedTokenError("its algorithm is not that of its key")
            return self._accept(self._claims(token, key, algorithm), call)
        except _UNREADABLE as error:
            raise RefusedTokenError(type(error).__name__) from None

    def _claims(self, token: str, key: PublicKey, algorithm: str) -> dict[str, Any]:
        required = ["iss", "aud", "exp", "iat", *(["jti"] if self._settings.single_use else [])]
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key.key,
            algorithms=[algorithm],
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            leeway=LEEWAY,
            options={"require": required},
        )
        return claims

    def _accept(self, claims: Mapping[str, Any], call: str) -> Identity:
        expires, issued = float(claims["exp"]), float(claims["iat"])
        if expires - issued > LONGEST:
            raise RefusedTokenError("it lives longer than a day")
        if self._settings.single_use:
            token_id = claims["jti"]
            if not isinstance(token_id, str) or not 0 < len(token_id) <= 256:
                raise RefusedTokenError("its id is no text")
            self._used.use(f"{claims['iss']}\n{token_id}", until=expires + LEEWAY, call=call)
        allowed = set(self._settings.jwt_scopes)
        if "scope" in claims:
            given = claims["scope"]
            words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
            allowed &= {str(word) for word in words}
        return Identity(_name(claims), frozenset(allowed))


class UsedIds:
    """Ids of tokens that were used, each accepted for one call.

    Args:
        folder: that the processes of a service share; empty: this process keeps its own.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._used: dict[str, tuple[float, str]] = {}
        """By the hash of an id, when its token ends, and the hash of the call that used it."""
        self._next_cleaning = 0.0

    def use(self, token_id: str, *, until: float, call: str = "") -> None:
        """Notes that an id is used.

        Args:
            token_id: the id with its issuer.
            until: time, in seconds since 1970, from which the token is refused anyway.
            call: word of the proxy for the call. The call that used an id is accepted again, as where a proxy sends it
                to a second replica after the first has died; no caller can give this word. Empty is no call's.

        Raises:
            RefusedTokenError: it was used before, or cannot be noted.
        """
        digest, by = _hash(token_id), _hash(call) if call else ""
        self._clean(time.time())
        try:
            user = self._user(digest, by, until)
        except OSError as error:
            logger.error("the id of a token cannot be noted: %s", error.strerror)
            raise RefusedTokenError("its id cannot be noted") from None
        if user is not None and (not by or user != by):
            raise RefusedTokenError("it was used before")

    def _user(self, digest: str, by: str, until: float) -> str | None:
        """Notes a call as the user of an id; returns the hash of the call that was noted before, None without one."""
        if self._folder is None:
            if digest in self._used:
                return self._used[digest][1]
            self._used[digest] = (until, by)
            return None
        file = self._folder / digest
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._folder / f".{os.getpid()}.{secrets.token_hex(8)}"
        temporary.write_text(by)
        try:
            os.utime(temporary, (until, until))
            # Of several processes at once, one is first, and its file is whole.
            os.link(temporary, file)
        except FileExistsError:
            return file.read_text()
        finally:
            temporary.unlink()
        return None

    def _clean(self, now: float) -> None:
        """Forgets ids whose tokens have expired, once a minute."""
        if now < self._next_cleaning:
            return
        self._next_cleaning = now + 60
        self._used = {digest: used for digest, used in self._used.items() if used[0] > now}
        for file in self._folder.glob("*") if self._folder and self._folder.exists() else ():
            if not _NOTED.fullmatch(file.name):
                continue  # somebody else's: the folder may be shared with more than notes
            # A file that was just made has the present as its time until it is set; another process may remove it.
            with suppress(OSError):
                if file.stat().st_mtime < now - 60:
                    file.unlink()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _name(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    words = [str(claims["iss"]), *([subject] if isinstance(subject, str) else [])]
    return re.sub(r"[^A-Za-z0-9 ._:/@-]", "?", " ".join(words))[:128]


def _keys_of(content: Any) -> dict[str, PublicKey]:
    """Returns the usable keys of a JWK set; the others, as those for encryption, are left out."""
    keys = {}
    for one in content["keys"]:
        usable = one.get("kty") in _KEY_TYPES.values() and one.get("use", "sig") == "sig" and "d" not in one
        if not usable or not isinstance(one.get("kid"), str):
            continue
        try:
            key = jwt.PyJWK(one, algorithm=one.get("alg") or _default_algorithm(one))
        except jwt.PyJWTError:
            continue
        if one["kty"] != "RSA" or key.key.key_size >= _LEAST_BITS:
            keys[one["kid"]] = PublicKey(key, one.get("alg", ""))
    return keys


def _default_algorithm(key: Mapping[str, Any]) -> str:
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    return {"RSA": "RS256", "OKP": "EdDSA"}.get(key["kty"]) or curves.get(str(key.get("crv")), "")


def _content(place: str) -> bytes:
    return Path(place).read_bytes()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it could lead to another host, or to one without TLS."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(place: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect())
    with opener.open(place, timeout=5) as answer:
        content: bytes = answer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError
    return content
