"""JSON web tokens: whatever is not right about one, it is refused (case 39)."""

import asyncio
import base64
import functools
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from assay.errors import UserError
from serve.auth.jwt import JsonWebTokens, KeySet, RefusedTokenError, UsedIds
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity

ISSUER, AUDIENCE = "https://ehr.example", "https://models.example"


@functools.cache
def keys() -> dict[str, Any]:
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "weak": rsa.generate_private_key(65537, 1024),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "stranger": rsa.generate_private_key(65537, 2048),
    }


def jwk(name: str, **more: Any) -> dict[str, Any]:
    kinds: dict[str, Any] = {"ec": jwt.algorithms.ECAlgorithm, "ed": jwt.algorithms.OKPAlgorithm}
    kind = kinds.get(name, jwt.algorithms.RSAAlgorithm)
    return {**json.loads(kind.to_jwk(keys()[name].public_key())), "kid": name, "use": "sig", **more}


@pytest.fixture
def settings(tmp_path: Path) -> AuthSettings:
    jwks = [jwk("rsa", alg="RS256"), jwk("ec"), jwk("ed"), jwk("weak"), {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"}]
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [*jwks, jwk("stranger", use="enc")]}))
    return AuthSettings(jwks=str(file), issuer=ISSUER, audience=AUDIENCE)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 300,
        "jti": f"{time.monotonic_ns()}",
        "sub": "ward",
    }
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def signed(key: str = "rsa", algorithm: str = "RS256", *, header: dict[str, Any] | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), keys()[key], algorithm, headers={"kid": key, **(header or {})})


def raw(header: bytes, payload: bytes, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    def encoded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    content = encoded(header) + b"." + encoded(payload)
    return (content + b"." + encoded(sign(content))).decode()


def identity(settings: AuthSettings, *tokens: str) -> Identity:
    async def check() -> Identity:
        checker = JsonWebTokens(settings)
        return [await checker.identity(token) for token in tokens][-1]

    return asyncio.run(check())


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_a_token_of_the_issuer_is_accepted(settings: AuthSettings, key: str, algorithm: str) -> None:
    who = identity(settings, signed(key, algorithm))
    assert who.name == f"{ISSUER} ward"
    assert who.scopes == {"predict", "explain", "certify"}


def test_a_token_may_allow_less_but_never_more(settings: AuthSettings) -> None:
    assert identity(settings, signed(scope="predict admin openid")).scopes == {"predict"}
    assert identity(settings, signed(scope=["explain"])).scopes == {"explain"}
    assert identity(settings, signed(scope=7)).scopes == set()


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.example"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": int(time.time()) + 10 * 24 * 3600},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"iat": int(time.time()) + 3600},
        {"iat": None},
        {"nbf": int(time.time()) + 3600},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 300},
    ],
    # Not their values: those of the present time would give each process of tests another name.
    ids=range(16),
)
def test_claims_must_be_right(settings: AuthSettings, changed: dict[str, Any]) -> None:
    with pytest.raises(RefusedTokenError):
        identity(settings, signed(**changed))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../x"},
        {"kid": "/etc/passwd"},
        {"kid": ""},
        {"kid": "oct"},
        {"kid": "stranger"},
        {"kid": "ec"},
        {"crit": ["exp"]},
        {"alg": "RS512"},
    ],
    ids=str,
)
def test_headers_must_be_right(settings: AuthSettings, header: dict[str, Any]) -> None:
    with pytest.raises(RefusedTokenError):
        identity(settings, signed(algorithm=header.get("alg", "RS256"), header=header))


def test_a_key_that_the_token_brings_is_not_used(settings: AuthSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("an address of a token was opened"))
    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_: pytest.fail("an address was opened"))
    own = {"jku": "https://evil.example/jwks.json", "x5u": "https://evil.example", "jwk": jwk("stranger")}
    with pytest.raises(RefusedTokenError):
        identity(settings, signed("stranger", header={**own, "kid": "rsa"}))
    assert identity(settings, signed(header=own)).name


def test_a_token_without_a_signature_by_a_public_key_is_refused(settings: AuthSettings) -> None:
    """``none``, and HS256 with the public key as the secret."""
    pem = (
        keys()["rsa"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    body = json.dumps(claims()).encode()
    for algorithm in (b"none", b"None", b"NONE", b"", b"HS256", b"HS512"):
        header = b'{"alg": "%s", "kid": "rsa", "typ": "JWT"}' % algorithm
        for sign in (lambda _: b"", lambda content: hmac.digest(pem, content, "sha256")):
            with pytest.raises(RefusedTokenError):
                identity(settings, raw(header, body, sign))


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "..",
        raw(b"[" * 4000, b"{}"),
        raw(b"[]", b"{}"),
        raw(b'{"alg": ["RS256"], "kid": "rsa"}', b"{}"),
        raw(b'{"alg": "RS256", "kid": {"a": 1}}', b"{}"),
        raw(b'{"alg": "RS256"}', b"{}"),
        raw(b'{"alg": "RS256", "kid": "rsa", "x": %s}' % (b"9" * 5000), b"{}"),
        raw(b"\xff\xfe", b"{}"),
    ],
    ids=lambda token: token[:20],
)
def test_what_is_no_token_is_refused(settings: AuthSettings, token: str) -> None:
    with pytest.raises(RefusedTokenError):
        identity(settings, token)


def test_short_keys_are_not_used(settings: AuthSettings) -> None:
    with pytest.warns(UserWarning, match="key"):
        token = signed("weak")
    with pytest.raises(RefusedTokenError, match="not in the set"):
        identity(settings, token)


def test_a_token_is_used_once(settings: AuthSettings, tmp_path: Path) -> None:
    token = signed()
    with pytest.raises(RefusedTokenError, match="used before"):
        identity(settings, token, token)
    shared = AuthSettings(jwks=settings.jwks, issuer=ISSUER, audience=AUDIENCE, used_ids=str(tmp_path / "used"))
    identity(shared, token)
    with pytest.raises(RefusedTokenError, match="used before"):
        identity(shared, token)  # as by another process
    many = AuthSettings(jwks=settings.jwks, issuer=ISSUER, audience=AUDIENCE, single_use=False)
    assert identity(many, token, token, signed(jti=None)).name


@pytest.mark.parametrize("shared", [False, True])
def test_a_call_that_haproxy_sends_a_second_time_is_no_second_use(shared: bool, tmp_path: Path) -> None:
    folder, later = str(tmp_path / "used") if shared else "", time.time() + 120
    first = UsedIds(folder)
    second = UsedIds(folder) if shared else first  # the replica that gets the call after the first has died
    first.use("id", until=later, call="call 1")
    second.use("id", until=later, call="call 1")
    for call in ("call 2", ""):
        with pytest.raises(RefusedTokenError, match="used before"):
            second.use("id", until=later, call=call)
    # What came another way than by HAProxy has no word, and is like no other call.
    first.use("direct", until=later)
    for call in ("", "call 1"):
        with pytest.raises(RefusedTokenError, match="used before"):
            second.use("direct", until=later, call=call)
    assert not shared or len(list((tmp_path / "used").iterdir())) == 2


def test_used_ids_are_forgotten_when_their_tokens_have_expired(tmp_path: Path) -> None:
    for used in (UsedIds(""), UsedIds(str(tmp_path))):
        used.use("old", until=time.time() - 120)
        used.use("new", until=time.time() + 120)
        used._next_cleaning = 0
        used.use("other", until=time.time() + 120)
        used.use("old", until=time.time() + 120)
        with pytest.raises(RefusedTokenError):
            used.use("new", until=time.time() + 120)


def test_ids_that_cannot_be_noted_let_nobody_in(settings: AuthSettings, tmp_path: Path) -> None:
    (tmp_path / "used").touch()
    shared = AuthSettings(jwks=settings.jwks, issuer=ISSUER, audience=AUDIENCE, used_ids=str(tmp_path / "used"))
    with pytest.raises(RefusedTokenError, match="cannot be noted"):
        identity(shared, signed())


def test_keys_are_read_again_when_a_new_one_appears_but_not_for_each_call(
    settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, now = Path(settings.jwks), [1000.0]
    reads: list[str] = []

    def content(place: str) -> bytes:
        reads.append(place)
        return Path(place).read_bytes()

    monkeypatch.setattr("serve.auth.jwt.time.monotonic", lambda: now[0])
    monkeypatch.setattr("serve.auth.jwt._content", content)

    async def steps() -> None:
        found = KeySet(str(file))
        await found.key("rsa")
        for _ in range(5):
            with pytest.raises(RefusedTokenError):
                await found.key("new")
        assert len(reads) == 1
        file.write_text(json.dumps({"keys": [jwk("rsa", kid="new")]}))
        now[0] += 61
        await found.key("new")
        with pytest.raises(RefusedTokenError):
            await found.key("rsa")  # withdrawn
        file.write_text("no json")
        now[0] += 3600
        await found.key("new")  # an outage of the issuer
        assert len(reads) == 3

    asyncio.run(steps())


@pytest.mark.parametrize("place", ["http://keys.example/jwks", "ftp://keys.example/jwks", "file:///etc/passwd"])
def test_keys_come_from_a_file_or_by_https(place: str) -> None:
    with pytest.raises(UserError, match="by https"):
        KeySet(place)


def test_issuer_and_audience_are_needed() -> None:
    with pytest.raises(UserError, match="give issuer and audience too"):
        AuthSettings(jwks="keys.json", issuer=ISSUER)
