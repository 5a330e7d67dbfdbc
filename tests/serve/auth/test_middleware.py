"""Who may call, through the layers as Ray's proxies run them (cases 39, 40)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn.protocols.http.auto as uvicorn_protocol
from starlette.types import Receive, Scope, Send

from serve.auth.layers import Layers, middlewares
from serve.auth.middleware import CALLER, SCOPES, scope_of, wants_page, without_token
from serve.auth.settings import AuthSettings
from serve.auth.tokens import Identity, add_token, revoke_token
from serve.limits.settings import SECRET, Limits

HOST = (b"host", b"localhost:8000")
PAGE = (b"accept", b"text/html,application/xhtml+xml")
Headers = Sequence[tuple[bytes, bytes]]


class Inner:
    """The routes behind the layers."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Called:
    """A service with two tokens, and calls of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = folder / "tokens.json"
        self.token = add_token(self.file, "ward-3", scopes=["predict"], days=None)
        self.admin = add_token(self.file, "owner", scopes=["admin"], days=None)
        self.inner = Inner()
        self.settings = AuthSettings(tokens=str(self.file), **settings)
        self.app = Layers(self.inner, Limits(), self.settings)
        self.sent: list[dict[str, Any]] = []

    def __call__(
        self,
        path: str = "/v1/models/M:predict",
        *headers: tuple[bytes, bytes],
        method: str = "POST",
        query: bytes = b"",
    ) -> int:
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
            "headers": [HOST, *headers], "client": ("127.0.0.1", 5000), "scheme": "http",
        }  # fmt: skip
        self.sent = []

        async def send(message: Any) -> None:
            self.sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        asyncio.run(self.app(scope, receive, send))
        return int(self.sent[0]["status"])

    def bearer(self, token: str = "") -> tuple[bytes, bytes]:
        return b"authorization", f"Bearer {token or self.token}".encode()

    @property
    def answered(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


@pytest.fixture
def called(tmp_path: Path) -> Called:
    return Called(tmp_path)


def test_a_token_is_needed_on_this_machine_too(called: Called) -> None:
    """Case 40."""
    assert called() == 401
    assert called.answered[b"www-authenticate"] == b"Bearer"
    assert called("/", method="GET") == 401
    assert called("/docs", method="GET") == 401
    assert called("/v1/models/M:predict", called.bearer()) == 200


def test_every_wrong_token_gets_the_same_answer(called: Called) -> None:
    """Case 39."""
    token = called.token
    assert called() == 401
    answer = called.sent
    wrong: list[Headers] = [
        [called.bearer("assay_" + "x" * 43)],
        [called.bearer(token[:-1])],
        [called.bearer(token + "x")],
        [called.bearer(), called.bearer()],
        [called.bearer(f"Bearer {token}")],
        [(b"authorization", b"bearer " + token.encode())],
        [(b"authorization", b"Bearer  " + token.encode())],
        [(b"authorization", b"Basic " + token.encode())],
        [(b"authorization", token.encode())],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer \xff")],
        [called.bearer("eyJhbGciOiJub25lIn0.e30.")],
        [(b"cookie", b"assay_session_8000=" + token.encode())],
        [(b"x-assay-caller", b"owner"), (b"x-assay-scopes", b"admin")],
        [(b"x-assay-passed", b"")],
    ]
    for headers in wrong:
        called.app = Layers(called.inner, Limits(), called.settings)
        assert called("/v1/models/M:predict", *headers) == 401, headers
        assert called.sent == answer
    assert called("/v1/models/M:predict", query=b"token=" + token.encode()) == 401
    assert called("/v2", method="GET", query=b"token=" + token.encode()) == 401
    revoke_token(called.file, "ward-3")
    assert called("/v1/models/M:predict", called.bearer(token)) == 401
    assert not called.inner.scopes


def test_a_token_allows_what_its_scopes_say(called: Called) -> None:
    assert called("/v1/models/M:explain", called.bearer()) == 403
    assert b"does not allow explain" in called.sent[1]["body"]
    assert called("/v2/repository/models/M/load", called.bearer()) == 403
    assert called("/v2/repository/models/M/load", called.bearer(called.admin)) == 200


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/models/M:predict", "predict"),
        ("/models/M/predict/v1/models/M:predict", "predict"),
        ("/v1/models/M/versions/2:explain", "explain"),
        ("/models/M/explain/v1/models/M:answer", "explain"),
        ("/v1/models/M:certify", "certify"),
        ("/v2/models/M/infer", "predict"),
        ("/models/M/predict/v2/models/M/versions/2/infer", "predict"),
        ("/v1/models/predict:certify", "certify"),
        ("/models/explain/predict/v2/models/explain/infer", "predict"),
        ("/v2/models/infer/versions/1/infer", "predict"),
        ("/v2/repository/index", ""),
        ("/v2/repository/models/M/load", "admin"),
        ("/v2/repository/models/predict/unload", "admin"),
        ("/v2/repository/models/infer", "admin"),
        ("/unknown", "admin"),
        ("/v1/models/M:predictor", "admin"),
    ],
)
def test_each_call_needs_one_scope(path: str, scope: str) -> None:
    assert scope_of(path, "POST") == scope
    assert scope_of(path, "GET") == ""


def test_the_routes_learn_who_calls_and_never_the_token(called: Called) -> None:
    told = [(b"x-assay-caller", b"owner"), (b"x-assay-scopes", b"admin"), (b"cookie", b"a=b")]
    assert called("/v1/models/M:predict", called.bearer(), *told, query=b"a=1&token=x&b=") == 200
    (scope,) = called.inner.scopes
    headers = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
    assert headers == [HOST, (CALLER, b"ward-3"), (SCOPES, b"predict")]
    assert scope["query_string"] == b"a=1&b="


def test_an_address_with_a_token_opens_a_session(called: Called) -> None:
    query = b"token=" + called.token.encode() + b"&model=a%20b"
    assert called("/", PAGE, method="GET", query=query) == 303
    assert called.answered[b"location"] == b"/?model=a+b"
    cookie = called.answered[b"set-cookie"].decode()
    assert called.token not in cookie
    assert cookie.startswith("assay_session_8000=") and "; HttpOnly; SameSite=Strict" in cookie
    assert called.answered[b"cache-control"] == b"no-store"
    session = (b"cookie", b"other=1; " + cookie.partition(";")[0].encode())
    assert called("/", PAGE, session, method="GET") == 200
    own, other = (b"origin", b"http://localhost:8000"), (b"origin", b"http://localhost:9000")
    assert called("/v1/models/M:predict", session, own) == 200
    assert called("/v1/models/M:predict", session) == 401  # no page says that it makes the call
    assert called("/v1/models/M:predict", session, other) == 403
    assert called("/v1/models/M:explain", session, own) == 403
    assert called("/", PAGE, (b"cookie", cookie.replace("_8000", "_9000").encode()), method="GET") == 401
    assert called("/", PAGE, (b"cookie", b"\xff=;;"), method="GET") == 401


@pytest.mark.parametrize("query", [b"token=x", b"token=", b"token=%ff", b"token=x&token=y"])
def test_an_address_with_a_wrong_token_opens_nothing(called: Called, query: bytes) -> None:
    assert called("/", PAGE, method="GET", query=query) == 401
    assert b"set-cookie" not in called.answered


def test_the_session_leads_to_no_other_site(called: Called) -> None:
    called("//evil.example/", PAGE, method="GET", query=b"token=" + called.token.encode())
    assert called.answered[b"location"] == b"/evil.example/"


def test_health_needs_no_token(called: Called) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/-/healthz"):
        assert called(path, method="GET") == 200


def test_a_caller_that_calls_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    called = Called(tmp_path, per_second=0.01, burst=3)
    assert [called("/v1/models/M:predict", called.bearer()) for _ in range(4)] == [200, 200, 200, 429]
    assert 90 <= int(called.answered[b"retry-after"]) <= 100
    assert called("/v1/models/M:predict", called.bearer(called.admin)) == 200


def test_guesses_are_slowed_down_and_disturb_no_valid_call(tmp_path: Path) -> None:
    called = Called(tmp_path, failures_per_second=0.2)
    assert [called() for _ in range(3)] == [401, 401, 429]
    assert int(called.answered[b"retry-after"]) <= 5
    assert called("/v1/models/M:predict", called.bearer()) == 200


def test_without_settings_nobody_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_SERVE_AUTH", raising=False)
    inner = Inner()
    called = Called.__new__(Called)
    called.app, called.inner = Layers(inner), inner
    assert called("/v1/models/M:predict", (b"authorization", b"Bearer x")) == 401
    assert called("/v2/health/live", method="GET") == 200


def test_an_application_trusts_layers_that_ran_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "s" * 32)
    called = Called(tmp_path)
    assert called("/v1/models/M:predict", (b"x-assay-passed", b"s" * 32), (CALLER, b"owner")) == 200
    assert called("/v1/models/M:predict", (b"x-assay-passed", b"s" * 31)) == 401
    assert called("/v1/models/M:predict", called.bearer()) == 200


def test_the_layers_for_ray_are_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, "AutoHTTPProtocol", uvicorn_protocol.AutoHTTPProtocol)
    called = Called(tmp_path)
    monkeypatch.setenv("ASSAY_SERVE_AUTH", called.settings.to_json())
    monkeypatch.setenv("ASSAY_SERVE_LIMITS", Limits(body=1).to_json())
    app: Any = called.inner
    for layer in middlewares():  # as Ray Serve wraps its application
        app = layer.cls(app, *layer.args, **layer.kwargs)
    called.app = app
    assert called() == 401
    assert called("/v1/models/M:predict", called.bearer()) == 200
    assert called("/v1/models/M:predict", called.bearer(), (b"content-length", b"2")) == 413


def test_a_call_is_known_by_the_word_of_haproxy_and_by_no_callers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []

    class OneUse:
        async def identity(self, token: str, call: str) -> Identity:
            words.append(call)
            return Identity("ehr", frozenset(["predict"]))

    word, bearer = (b"x-assay-call", b"4f1c"), (b"authorization", b"Bearer a.b.c")
    monkeypatch.setenv(SECRET, "s" * 32)
    for behind in ("0", "1"):
        monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", behind)
        called = Called(tmp_path / behind)
        called.app._layers._app._authenticator._jwt = OneUse()  # type: ignore[attr-defined]
        through = [(b"x-assay-proxy", b"s" * 32), (b"x-forwarded-for", b"127.0.0.1")] if behind == "1" else []
        assert called("/v1/models/M:predict", word, bearer, *through) == 200
        assert word not in called.inner.scopes[0]["headers"]
    assert words == ["", "4f1c"]


def test_a_query_without_a_token_is_left_alone() -> None:
    assert without_token(b"a=%20&&b=+") == b"a=%20&&b=+"
    assert without_token(b"token=x") == b""


def test_a_page_is_asked_for_by_browsers_alone() -> None:
    assert wants_page({"method": "GET", "headers": [PAGE]})
    assert not wants_page({"method": "GET", "headers": [(b"accept", b"*/*")]})
    assert not wants_page({"method": "POST", "headers": [PAGE]})
