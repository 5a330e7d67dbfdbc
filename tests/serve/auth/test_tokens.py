"""Tokens: made once, kept as hashes, and refused once they have expired or are revoked."""

import json
import multiprocessing
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.errors import UserError
from jobs.tokens import app
from serve.auth.sessions import SECONDS, cookie_name, find_session, make_session
from serve.auth.tokens import TokenFile, add_token, read_tokens, revoke_token, rotate_token, start_token

LATER = datetime.now(UTC) + timedelta(days=31)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_accepted_until_it_expires(file: Path) -> None:
    token = add_token(file, "ward-3", scopes=["predict"], days=30)
    tokens = TokenFile(file)
    found = tokens.find(token)
    assert found is not None and found.identity.name == "ward-3"
    assert found.identity.may("predict") and found.identity.may("") and not found.identity.may("explain")
    assert tokens.find(token, LATER) is None
    assert tokens.find(token + "x") is None and tokens.find("") is None and tokens.find("\ud800") is None


def test_the_file_tells_nobody_a_token(file: Path) -> None:
    token = add_token(file, "ward-3", scopes=["admin"], days=None)
    assert token not in file.read_text() and token.removeprefix("assay_") not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (stored,) = read_tokens(file)
    assert stored.identity.may("certify")  # admin may everything


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    token = add_token(file, "ward-3", scopes=["predict"], days=None)
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_tokens(file)
    assert TokenFile(file).find(token) is None


def test_a_file_that_becomes_readable_lets_nobody_in_until_it_is_private_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_token(file, "ward-3", scopes=["predict"], days=None)
    tokens = TokenFile(file)
    assert tokens.find(token)
    for mode in (0o644, 0o660, 0o604):
        file.chmod(mode)
        assert tokens.find(token) is None
        file.chmod(0o600)
        assert tokens.find(token)
    assert "chmod 600" in caplog.text


def test_a_file_that_another_user_could_have_put_there_lets_nobody_in(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.auth.tokens._AGAIN", -1.0)
    token = add_token(file, "ward-3", scopes=["predict"], days=None)
    tokens = TokenFile(file)
    assert tokens.find(token)
    tmp_path.chmod(0o777)
    assert tokens.find(token) is None
    with pytest.raises(UserError, match="chmod o-w"):
        read_tokens(file)
    # As /tmp has it: others add files there, and replace none.
    tmp_path.chmod(0o1777)
    assert tokens.find(token)
    tmp_path.chmod(0o700)
    elsewhere = tmp_path / "open" / "tokens.json"
    elsewhere.parent.mkdir()
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert tokens.find(token)
    elsewhere.parent.chmod(0o777)
    assert tokens.find(token) is None
    elsewhere.parent.chmod(0o700)
    owner = os.getuid()
    monkeypatch.setattr("serve.auth.tokens.os.getuid", lambda: owner + 7)
    if owner:
        assert tokens.find(token) is None
    else:
        os.lchown(file, 12345, -1)
        with pytest.raises(UserError, match="belongs to the user 12345"):
            read_tokens(file)
        os.lchown(file, 0, -1)
        os.chown(elsewhere, 12345, -1)
        assert tokens.find(token) is None


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"tokens": [{}]}', '{"tokens": [{"name": "a", "hash": "x", "scopes": ["predict"], "created": ""}]}'],
)
def test_a_damaged_file_lets_nobody_in(file: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    token = add_token(file, "ward-3", scopes=["predict"], days=None)
    tokens = TokenFile(file)
    assert tokens.find(token)
    file.write_text(content)
    assert tokens.find(token) is None and tokens.find(token) is None
    assert caplog.text.count("no token is accepted") == 1
    file.unlink()
    assert tokens.find(token) is None


def test_a_running_service_learns_of_changes(file: Path) -> None:
    tokens = TokenFile(file)
    first = add_token(file, "first", scopes=["predict"], days=None)
    assert tokens.find(first)
    second = add_token(file, "second", scopes=["predict"], days=None)
    assert tokens.find(second)
    revoke_token(file, "first")
    assert tokens.find(first) is None and tokens.find(second)


def test_a_rotated_token_ends_a_little_later(file: Path) -> None:
    old = add_token(file, "ward-3", scopes=["predict", "explain"], days=None)
    new = rotate_token(file, "ward-3", keep_hours=2, days=90)
    tokens, soon = TokenFile(file), datetime.now(UTC) + timedelta(hours=1)
    assert tokens.find(old, soon) and tokens.find(new, soon)
    assert tokens.find(old, soon + timedelta(hours=2)) is None
    found = tokens.find(new, LATER)
    assert found is not None and found.scopes == ("predict", "explain")
    assert rotate_token(file, "ward-3", keep_hours=0)
    assert tokens.find(old) is None and tokens.find(new) is None


def test_a_new_token_lasts_as_long_as_the_old_one_unless_it_is_said(file: Path) -> None:
    add_token(file, "ward-3", scopes=["predict"], days=30)
    add_token(file, "desk", scopes=["predict"], days=None)
    # The second time too, after the end of the first was moved.
    for _ in range(2):
        rotate_token(file, "ward-3", keep_hours=1)
        assert read_tokens(file)[-1].days == pytest.approx(30)
    rotate_token(file, "ward-3", keep_hours=1, days=7)
    assert read_tokens(file)[-1].days == pytest.approx(7)
    rotate_token(file, "desk", keep_hours=1)
    assert read_tokens(file)[-1].expires is None


def test_each_start_has_a_token_of_its_own(file: Path) -> None:
    other = add_token(file, "ward-3", scopes=["predict"], days=None)
    first, second = start_token(file), start_token(file)
    tokens = TokenFile(file)
    assert tokens.find(first) is None
    assert tokens.find(second) and tokens.find(other)


@pytest.mark.parametrize(
    ("name", "scopes", "days", "setting"),
    [
        ("", ["predict"], None, "name"),
        ("a\nb", ["predict"], None, "name"),
        ("x" * 65, ["predict"], None, "name"),
        ("a", [], None, "scopes"),
        ("a", ["everything"], None, "scopes"),
        ("a", ["predict"], 0, "days"),
        ("a", ["predict"], -1, "days"),
        ("a", ["predict"], float("nan"), "days"),
        ("a", ["predict"], 1e9, "days"),
    ],
)
def test_what_cannot_be_used_is_refused(
    file: Path, name: str, scopes: list[str], days: float | None, setting: str
) -> None:
    with pytest.raises(UserError) as caught:
        add_token(file, name, scopes=scopes, days=days)
    assert caught.value.setting == setting
    assert not file.exists()


def test_a_name_is_taken_once(file: Path) -> None:
    add_token(file, "ward-3", scopes=["predict"], days=None)
    with pytest.raises(UserError, match="there is a token 'ward-3' already"):
        add_token(file, "ward-3", scopes=["predict"], days=None)


def _add(file: Path, number: int) -> None:
    add_token(file, f"caller {number}", scopes=["predict"], days=None)


def test_commands_at_once_lose_nothing(file: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(file, number)) for number in range(8)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len(read_tokens(file)) == 8
    assert len(json.loads(file.read_text())["tokens"]) == 8


def test_a_session_lasts_as_long_as_its_token(file: Path) -> None:
    tokens = TokenFile(file)
    token = add_token(file, "ward-3", scopes=["predict"], days=None)
    add_token(file, "other", scopes=["admin"], days=None)
    found = tokens.find(token)
    assert found is not None
    session = make_session(found, now=1000)
    assert token not in session and found.hash not in session
    assert find_session(session, tokens, now=1000 + SECONDS) == found
    assert find_session(session, tokens, now=1001 + SECONDS) is None
    ending = TokenFile(file)
    short = add_token(file, "guest", scopes=["predict"], days=0.01)
    guest = ending.find(short)
    assert guest is not None
    at = time.time()
    opened = make_session(guest, now=at)
    assert find_session(opened, ending, now=at) == guest
    assert find_session(opened, ending, now=at + 0.02 * 86400) is None, "its token has expired"
    for forged in (
        "",
        "a.b.c",
        "9" + session,
        session[:-1],
        session + "x",
        session.replace("4", "5", 1),
        "é" + session,
    ):
        assert find_session(forged, tokens, now=1000) is None
    revoke_token(file, "ward-3")
    assert find_session(session, tokens, now=1000) is None


def test_services_on_two_ports_have_two_cookies() -> None:
    assert cookie_name("localhost:8000") != cookie_name("localhost:8001")
    assert cookie_name("models.example") == cookie_name("[::1]") == "assay_session"


def test_the_command_adds_lists_rotates_and_revokes(file: Path) -> None:
    def said(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*words, "--file", str(file)])
        assert result.exit_code == code, result.output
        said_too.append(result.stderr)
        return (result.stdout if code == 0 else result.output).strip()

    said_too: list[str] = []

    token = said("add", "ward-3", "--scopes", "predict, explain", "--days", "90")
    assert TokenFile(file).find(token)
    listed = said("list")
    assert "ward-3" in listed and "predict, explain" in listed and token not in listed
    ends = said_too[0]
    assert ends.startswith("expires: 20")
    new = said("rotate", "ward-3", "--keep-hours", "0")
    assert said_too[-1].startswith("expires: 20")
    assert TokenFile(file).find(new) and not TokenFile(file).find(token)
    assert "expired" in said("list")
    said("revoke", "ward-3")
    assert "there is no token 'ward-3'; there are: none" in said("revoke", "ward-3", code=2)
    assert "scopes all: give one or more of predict" in said("add", "x", "--scopes", "all", code=2)


def test_a_list_of_no_file_says_how_to_make_one(file: Path) -> None:
    result = CliRunner().invoke(app, ["list", "--file", str(file)])
    assert result.exit_code == 2 and "python -m jobs.tokens add NAME makes it" in result.output
