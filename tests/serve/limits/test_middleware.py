"""The limits of the Python proxy: the layers on uvicorn, as Ray Serve starts it, with raw calls."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
import uvicorn.protocols.http.auto as uvicorn_protocol
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.limits.admission import Admission
from serve.limits.bodies import Bodies
from serve.limits.connections import Limited, limit_connections
from serve.limits.settings import Limits
from tests.serve.limits.upstream import call, free_port, held_long, request

LIMITS = Limits(
    body=200_000,
    upload_seconds=2,
    header_bytes=16_000,
    connections_per_address=90,
    long_bodies=60,
    long_bodies_per_address=40,
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
SECRET = "s" * 32


class Inner:
    """What lies behind the limits: it keeps what came, and answers as Serve itself does where told so."""

    def __init__(self) -> None:
        self.received: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/-/healthz":
            await _text(send, 200, "success")
            return
        message = await receive()
        assert not message.get("more_body")
        self.received.append((scope, message.get("body", b"")))
        what = dict(scope["headers"]).get(b"x-do", b"").decode()
        if what == "raise":
            raise RuntimeError("Ada Lovelace")
        if what != "nothing" and (what != "nothing first" or len(self.received) > 1):
            what = what.removeprefix("nothing first")
            await _text(send, int(what or 200), f"Path '{scope['path']}' not found")


async def _text(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode()), (b"x-request-id", b"r1")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def serve(app: ASGIApp) -> Iterator[int]:
    """Runs uvicorn, set as Ray Serve sets it, in a thread."""
    port = free_port()
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, timeout_keep_alive=90, lifespan="off", access_log=False, log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture(scope="module")
def inner() -> Inner:
    return Inner()


@pytest.fixture(scope="module")
def front(inner: Inner) -> Iterator[int]:
    usual = uvicorn_protocol.AutoHTTPProtocol
    limit_connections(LIMITS)
    assert issubclass(uvicorn_protocol.AutoHTTPProtocol, Limited)
    try:
        yield from serve(Admission(Bodies(inner, LIMITS), LIMITS, secret="", behind_haproxy=False))
    finally:
        uvicorn_protocol.AutoHTTPProtocol = usual


@pytest.fixture(scope="module")
def replica(inner: Inner) -> Iterator[int]:
    """The same layers in a replica behind HAProxy."""
    yield from serve(Admission(Bodies(inner, LIMITS), LIMITS, secret=SECRET, behind_haproxy=True))


@pytest.fixture(autouse=True)
def forget(inner: Inner) -> None:
    inner.received.clear()


def sent(inner: Inner) -> dict[bytes, bytes]:
    return dict(inner.received[0][0]["headers"])


def test_a_call_passes_with_its_body(front: int, inner: Inner) -> None:
    assert call(front, request("/a", b"{}")).status == 200
    assert call(front, CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n").status == 200
    assert call(front, request("/a", method="GET")).status == 200
    assert [body for _, body in inner.received] == [b"{}", b"ab", b""]


def test_a_body_that_announces_too_much_is_refused_before_it_comes(front: int, inner: Inner) -> None:
    answer = call(front, request(length=10**12))
    assert answer.status == 413 and answer.closed
    assert answer.error == "the body is longer than 200000 bytes; send fewer records at a time"
    assert not inner.received


def test_a_body_in_chunks_is_cut_at_the_limit(front: int, inner: Inner) -> None:
    """Case 6."""
    answer = call(front, CHUNKED + (b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n") * 8)
    assert answer.status == 413 and answer.error
    assert not inner.received


def test_a_body_of_the_greatest_length_passes(front: int, inner: Inner) -> None:
    body = bytes(range(256)) * (LIMITS.body // 256)
    assert call(front, request("/", body)).status == 200
    assert inner.received[0][1] == body


def test_one_byte_chunks_take_little_work() -> None:
    """Case 8: a body of 1 MiB built by ``body += chunk`` takes minutes of the event loop."""
    chunks = 1 << 20
    message = {"type": "http.request", "body": bytes(1), "more_body": True}
    left = iter(range(chunks))

    async def receive() -> Any:
        return message if next(left, None) is not None else {**message, "body": b"", "more_body": False}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert len((await receive())["body"]) == chunks

    scope = {"type": "http", "path": "/", "headers": [(b"transfer-encoding", b"chunked")]}
    start = time.process_time()
    asyncio.run(Bodies(app, Limits(upload_seconds=600))(scope, receive, None))  # type: ignore[arg-type]
    assert time.process_time() - start < 10


def test_long_bodies_of_one_address_leave_room_for_those_of_others(front: int) -> None:
    body = b"1" * 100_000
    with held_long(front, LIMITS.long_bodies_per_address):
        assert call(front, request("/", body)).status == 503
        assert call(front, request("/", b"{}")).status == 200
        assert call(front, request("/", body), source="127.0.0.2").status == 200
    assert call(front, request("/", body)).status == 200


def test_slow_bodies_take_no_place(front: int, inner: Inner) -> None:
    """Case 5."""
    connections = []
    for _ in range(30):
        one = socket.create_connection(("127.0.0.1", front), timeout=20)
        one.sendall(request("/", b"1", length=100_000))
        connections.append(one)
    assert {call(front, request("/", b"{}")).status for _ in range(10)} == {200}
    answers = [one.recv(1000) for one in connections]
    for one in connections:
        one.close()
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
    assert len(inner.received) == 10


def test_slow_headers_are_cut(front: int) -> None:
    drips = {b"": b"P", b"POST / HTTP/1.1\r\nHost: localhost\r\n": b"X"}
    with ThreadPoolExecutor() as both:
        answers = list(both.map(lambda first: call(front, first, then=drips[first], after=0.2), drips))
    for answer in answers:
        assert answer.status == 408 and answer.closed
        assert answer.error == "the headers must arrive within 2 s"


def test_a_connection_waits_for_its_next_call(front: int, inner: Inner) -> None:
    """The limit of headers begins with the first byte of a call."""
    with socket.create_connection(("127.0.0.1", front), timeout=20) as one:
        for wait in (0.0, LIMITS.upload_seconds + 0.2):
            time.sleep(wait)
            one.sendall(request("/", b"{}"))
            answer = b""
            while not answer.endswith(b"not found"):  # head and body may come apart
                answer += one.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200")
    assert len(inner.received) == 2


@pytest.mark.parametrize("headers", [[b"X: " + b"a" * 10_000_000], [b"X: Ada"] * 100_000], ids=["long", "many"])
def test_endless_headers_are_cut(front: int, inner: Inner, headers: Sequence[bytes]) -> None:
    """Case 10."""
    answer = call(front, request("/", b"", *headers))
    assert answer.status == 431 and answer.closed
    assert "Ada" not in answer.error
    assert not inner.received


def test_one_address_cannot_take_all_connections(front: int) -> None:
    held = [socket.create_connection(("127.0.0.1", front)) for _ in range(LIMITS.connections_per_address)]
    with pytest.raises(ConnectionError):
        call(front, request())
    for one in held:
        one.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/", b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
        (request("/", b"hello", b"Content-Length: 6"), 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (request("/", host="localhost:evil.com"), 400),
        (request("/", host="evil.com"), 403),
        (request("/", b"{}", b"Origin: http://evil.example"), 403),
        (request("/", method="DELETE"), 405),
        (request("/", b"x", b"Content-Encoding: gzip"), 415),
        (request("/", b"", *[b"X: 1"] * 120), 431),
        (request("/", b"", b"X: " + b"a" * 17_000), 431),
        (request("/", b"", b"X-Request-ID: " + b"a" * 129), 400),
        (request("/models/M/predict/v1/models/M:predict"), 404),
        (request("/-/routes"), 404),
        (request("/%2d/routes"), 404),
        (request("/", b"{}", b"X-Forwarded-For: 10.0.0.9"), 403),
    ],
    ids=lambda value: str(value[:60]) if isinstance(value, bytes) else "",
)
def test_malformed_requests_are_refused(front: int, inner: Inner, data: bytes, status: int) -> None:
    """Cases 9, 10, 13, 15, 16, 27, 43."""
    answer = call(front, data)
    assert answer.status == status
    if answer.body != b"Invalid HTTP request received.":  # uvicorn, before there is a request
        assert answer.error
    assert not inner.received


def test_callers_cannot_say_what_only_the_proxy_knows(front: int, inner: Inner) -> None:
    told = [
        b"X-Assay-Proxy: guess",
        b"X-Assay-Passed: guess",
        b"X-Assay-Caller: admin",
        b"X-Request-Timeout-Seconds: -1",
    ]
    told += [b"x-request-disconnect-disabled: ?1", b"serve_multiplexed_model_id: \xff", b"X-Session-Id: \xff"]
    told += [b"Forwarded: for=1.1.1.1", b"X-Forwarded-Host: evil"]
    assert call(front, request("/", b"{}", *told)).status == 200
    headers = sent(inner)
    assert headers.pop(b"x-request-id")
    assert headers == {b"host": b"localhost", b"content-length": b"2"}
    assert inner.received[0][0]["client"][0] == "127.0.0.1"


@pytest.mark.parametrize("given", [b"Ada Lovelace 1815", b"\xff", b"", b"a,b"])
def test_request_ids_that_are_no_words_are_replaced(front: int, inner: Inner, given: bytes) -> None:
    """Case 27."""
    assert call(front, request("/", b"", b"X-Request-ID: " + given)).status == 200
    assert len(sent(inner)[b"x-request-id"]) == 32
    inner.received.clear()
    call(front, request("/", b"", b"X-Request-ID: a-1_B.9"))
    assert sent(inner)[b"x-request-id"] == b"a-1_B.9"


@pytest.mark.parametrize("status", [404, 408, 429, 500, 503])
def test_errors_of_serve_itself_come_in_our_form(front: int, status: int) -> None:
    """Case 28."""
    answer = call(front, request("/Ada%20Lovelace", b"{}", b"X-Do: %d" % status))
    assert answer.status == status
    assert "Ada" not in answer.error
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert answer.headers["x-request-id"] == "r1"


def test_a_call_that_breaks_gets_an_error_of_ours(front: int, caplog: pytest.LogCaptureFixture) -> None:
    answer = call(front, request("/", b"{}", b"X-Do: raise"))
    assert (answer.status, answer.error) == (500, "the server failed on this call; its log says where")
    assert "Ada" not in caplog.text


def test_a_call_whose_replica_dies_goes_on_a_second_time(front: int, inner: Inner) -> None:
    """Serve's proxy then sends nothing."""
    answer = call(front, request("/v1/models/M:predict", b"{}", b"X-Do: nothing first"))
    assert answer.status == 200
    assert [body for _, body in inner.received] == [b"{}", b"{}"]


@pytest.mark.parametrize(("path", "times"), [("/v1/models/M:predict", 2), ("/v2/repository/models/M/load", 1)])
def test_a_call_without_an_answer_is_told_to_come_back(front: int, inner: Inner, path: str, times: int) -> None:
    answer = call(front, request(path, b"{}", b"X-Do: nothing"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.error
    assert len(inner.received) == times


def test_a_call_whose_caller_has_gone_is_not_made_again() -> None:
    calls = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append([(await receive())["type"], (await receive())["type"]])

    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Any:
        return messages.pop()

    scope = {"type": "http", "path": "/v1/models/M:predict", "headers": [(b"content-length", b"2")]}
    asyncio.run(Bodies(app, LIMITS)(scope, receive, None))  # type: ignore[arg-type]
    assert calls == [["http.request", "http.disconnect"]]


def test_health_needs_no_place_and_no_name(front: int, inner: Inner) -> None:
    answer = call(front, request("/v2/health/live", method="GET", host="10.0.0.1"))
    assert (answer.status, answer.json) == (200, {"live": True})
    assert call(front, request("/-/healthz", method="GET", host="10.0.0.1")).body == b"success"
    assert not inner.received


def test_a_replica_answers_the_proxy_alone(replica: int, inner: Inner) -> None:
    """Case 11."""
    for headers in ([], [b"X-Assay-Proxy: guess"], [b"X-Assay-Proxy: " + SECRET.encode()] * 2):
        answer = call(replica, request("/", b"{}", *headers))
        assert (answer.status, "for the proxy only" in answer.error) == (403, True)
    assert call(replica, request("/-/healthz", method="GET")).status == 200
    assert not inner.received


def test_a_replica_learns_from_the_proxy_who_calls(replica: int, inner: Inner) -> None:
    through = b"X-Assay-Proxy: " + SECRET.encode()
    assert call(replica, request("/models/M/x", b"{}", through, b"X-Forwarded-For: 127.0.0.1")).status == 200
    headers = sent(inner)
    assert headers[b"x-assay-passed"] == SECRET.encode()
    assert b"x-assay-proxy" not in headers
    assert inner.received[0][0]["scheme"] == "http"
    assert call(replica, request("/", b"{}", through, b"X-Forwarded-For: 10.0.0.9")).status == 403
    assert call(replica, request("/", b"{}", through)).status == 403
    inner.received.clear()
    told = b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: https"
    assert call(replica, request("/", b"{}", through, *told)).status == 200
    assert inner.received[0][0]["scheme"] == "https"


def test_a_replica_whose_secret_is_not_set_answers_nobody() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    for port in serve(Admission(app, LIMITS, secret="", behind_haproxy=True)):
        assert call(port, request("/", b"{}", b"X-Assay-Proxy: ")).status == 403
