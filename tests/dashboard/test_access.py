"""Nobody sees the page without its token, under another name, or from another page; and its headers hold."""

import stat
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from assay.dashboard.access import HEADERS, Access, token_of
from assay.errors import UserError
from tests.dashboard.conftest import TOKEN
from tests.mistakes import refused

ADDRESS = "http://localhost:8050"


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI()

    @made.get("/")
    def page() -> str:
        return "the page"

    @made.get("/api/secret")
    def secret() -> str:
        return "figures"

    @made.post("/api/rows")
    def rows() -> str:
        return "rows"

    made.add_middleware(Access, token=TOKEN, port=8050)
    return made


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=ADDRESS)


@pytest.fixture
def friend(app: FastAPI) -> TestClient:
    """Who opened the address once."""
    client = TestClient(app, base_url=ADDRESS)
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


@pytest.mark.parametrize("query", [{}, {"token": ""}, {"token": TOKEN[:-1]}, {"token": TOKEN + "x"}, {"token": "ä"}])
def test_without_the_token_nothing_is_seen(stranger: TestClient, query: dict[str, str]) -> None:
    for path in ("/", "/api/secret", "/api/no-such-thing"):
        answer = stranger.get(path, params=query)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_the_token_opens_the_page_alone_and_the_cookie_the_rest(stranger: TestClient) -> None:
    assert stranger.get("/api/secret", params={"token": TOKEN}).status_code == 401
    opened = stranger.get("/", params={"token": TOKEN})
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/api/secret").status_code == 200


def test_a_cookie_of_another_server_opens_nothing(stranger: TestClient) -> None:
    stranger.cookies.set("assay-dashboard-8050", "0" * 64)
    assert stranger.get("/api/secret").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8050", ""])
def test_another_host_name_is_refused(friend: TestClient, host: str) -> None:
    assert friend.get("/api/secret", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:8050", "[::1]:8050", "localhost"])
def test_names_of_this_machine_pass(stranger: TestClient, host: str) -> None:
    assert stranger.get("/", params={"token": TOKEN}, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "https://localhost:8050"])
def test_another_page_is_refused(friend: TestClient, origin: str) -> None:
    assert friend.get("/api/secret", headers={"origin": origin}).status_code == 403
    assert friend.post("/api/rows", headers={"origin": origin}).status_code == 403


def test_a_post_comes_from_the_page_itself(friend: TestClient) -> None:
    assert friend.post("/api/rows").status_code == 403
    assert friend.post("/api/rows", headers={"origin": ADDRESS}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(friend: TestClient, method: str) -> None:
    assert friend.request(method, "/api/secret").status_code == 405


def test_a_request_that_is_too_long_is_refused_before_it_is_read(friend: TestClient) -> None:
    def endless() -> Any:
        yield b"x"

    about = {"origin": ADDRESS}
    assert friend.post("/api/rows", headers={**about, "content-length": str(9 << 20)}).status_code == 413
    assert friend.post("/api/rows", headers=about, content=endless()).status_code == 413


def test_every_answer_has_the_headers(friend: TestClient, stranger: TestClient) -> None:
    for answer in (friend.get("/"), friend.get("/nothing"), stranger.get("/")):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "default-src 'none'" in policy


def test_a_token_is_made_once_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_DASHBOARD_TOKEN", raising=False)
    place = tmp_path / "state" / "token"
    token = token_of(place)
    assert len(token) >= 40
    assert token_of(place) == token
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert token_of(place, new=True) != token


def test_a_token_of_the_environment_is_used_unless_it_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DASHBOARD_TOKEN", TOKEN)
    assert token_of(tmp_path / "token") == TOKEN
    assert not (tmp_path / "token").exists()
    monkeypatch.setenv("ASSAY_DASHBOARD_TOKEN", "short")
    with refused(UserError, "ASSAY_DASHBOARD_TOKEN", 5, 20):
        token_of(tmp_path / "token")
