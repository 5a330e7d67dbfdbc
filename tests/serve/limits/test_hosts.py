"""Whether a call may come from its caller, to this host."""

import pytest

from serve.limits.hosts import is_loopback, judge, split_host
from serve.limits.settings import Limits

PRIVATE, PUBLIC = Limits(), Limits(public=True)


def status(
    limits: Limits, client: str | None, *headers: tuple[bytes, bytes], method: str = "POST", scheme: str = "http"
) -> int:
    refusal = judge(headers, method=method, scheme=scheme, client=client, limits=limits)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost.", "LOCALHOST:8000", "localhost.:8000"),
        *("127.0.0.1", "127.0.0.2:8000", "127.0.0.1.:80", "[::1]:8000", "[::ffff:127.0.0.1]"),
    ],
)
@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_all_names_of_this_machine_are_known(host: str, client: str) -> None:
    """Case 14."""
    assert status(PRIVATE, client, (b"host", host.encode())) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:evil.com", "127.0.0.1:80@evil", "127.0.0.1:80@evil.com", "localhost,evil.com", "http://localhost"),
        *("localhost:99999", "localhost:0", "localhost:", "localhost/", "[::1", "[evil]", "", "a b", "\xe9", "a" * 254),
    ],
)
@pytest.mark.parametrize("limits", [PRIVATE, PUBLIC])
def test_a_malformed_host_is_refused(limits: Limits, host: str) -> None:
    """Case 15."""
    assert status(limits, "127.0.0.1", (b"host", host.encode("latin-1"))) == 400


def test_there_is_one_host() -> None:
    assert status(PRIVATE, "127.0.0.1") == 400
    assert status(PRIVATE, "127.0.0.1", (b"host", b"localhost"), (b"host", b"evil.com")) == 400


@pytest.mark.parametrize(
    ("client", "host"),
    [
        *((client, b"localhost") for client in ("10.0.0.9", "::ffff:10.0.0.9", "testclient", "", None)),
        *(("127.0.0.1", host) for host in (b"evil.com", b"localhost.evil.com", b"10.0.0.1")),
    ],
)
def test_a_private_service_answers_its_own_machine_alone(client: str | None, host: bytes) -> None:
    """Cases 11, 12."""
    assert status(PRIVATE, client, (b"host", host)) == 403
    assert status(PUBLIC, client, (b"host", host)) == 200


def test_a_public_service_may_have_names() -> None:
    limits = Limits(public=True, hosts=("Models.Hospital.example",))
    assert status(limits, "10.0.0.9", (b"host", b"models.hospital.example.:443")) == 200
    assert status(limits, "10.0.0.9", (b"host", b"evil.com")) == 403
    assert status(limits, "127.0.0.1", (b"host", b"localhost:8000")) == 200


@pytest.mark.parametrize(
    "headers",
    [
        [(b"origin", b"http://evil.example")],
        [(b"origin", b"http://localhost:9000")],
        [(b"origin", b"https://localhost:8000.evil.example")],
        [(b"origin", b"http://localhost:8000@evil.example")],
        [(b"origin", b"null")],
        [(b"origin", b"http://localhost:8000"), (b"origin", b"http://evil.example")],
        [(b"sec-fetch-site", b"cross-site")],
        [(b"sec-fetch-site", b"same-site")],
        [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")],
        [(b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")],
    ],
)
def test_pages_of_other_sites_may_not_call(headers: list[tuple[bytes, bytes]]) -> None:
    """Case 16."""
    assert status(PRIVATE, "127.0.0.1", (b"host", b"localhost:8000"), *headers) == 403


def test_the_own_page_may_call() -> None:
    host = (b"host", b"localhost:8000")
    assert (
        status(PRIVATE, "127.0.0.1", host, (b"origin", b"http://LOCALHOST:8000"), (b"sec-fetch-site", b"same-origin"))
        == 200
    )
    assert status(PRIVATE, "127.0.0.1", host, (b"sec-fetch-site", b"none")) == 200
    behind = (b"host", b"models.example"), (b"origin", b"https://models.example")
    assert status(PUBLIC, "10.0.0.9", *behind) == 200
    followed = (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")
    assert status(PRIVATE, "127.0.0.1", host, *followed, method="GET") == 200


def test_addresses_and_hosts_are_read_strictly() -> None:
    assert not any(is_loopback(text) for text in ("", "localhost", "128.0.0.1", "127.0.0.1:80", "127.1", "0x7f000001"))
    assert split_host("A.Example.:80") == ("a.example", 80)
    assert split_host("[::1]") == ("::1", None)
