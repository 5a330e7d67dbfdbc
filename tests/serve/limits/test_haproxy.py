"""The hardened HAProxy between attackers and stand-ins for replicas."""

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from serve.limits.error_files import error_files
from serve.limits.haproxy import MARK, harden
from serve.limits.settings import SECRET as SECRET_VARIABLE
from serve.limits.settings import VARIABLE, Limits
from tests.serve.limits.rendered import render
from tests.serve.limits.upstream import SCRIPT, Proxy, Replica, call, held_long, proxy, request

LIMITS = Limits(
    body=200_000,
    upload_seconds=2,
    answer_seconds=5,
    ongoing={"": 2},
    queued={"": 3},
    header_bytes=16_000,
    long_bodies=99,
    long_bodies_per_address=70,
)
PREDICT, EXPLAIN = "/models/M/predict", "/models/M/explain"
SECRET = "s" * 32
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def replicas() -> dict[str, Replica]:
    return {name: Replica().start() for name in ("front", "predict", "other", "explain")}


@pytest.fixture(scope="module")
def front(replicas: dict[str, Replica], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A front, two replicas that predict, one that explains; nothing certifies."""
    ports = {name: replica.port for name, replica in replicas.items()}
    servers = {"/": [ports["front"]], PREDICT: [ports["predict"], ports["other"]], EXPLAIN: [ports["explain"]]}
    with proxy(tmp_path_factory.mktemp("haproxy"), servers, LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def forget(replicas: dict[str, Replica]) -> None:
    for replica in replicas.values():
        replica.received.clear()
        replica.most_working = 0


def rendered(**given: object) -> str:
    ports: dict[str, list[int]] = {"/": [1], PREDICT: [2, 3], "/models/a.b-C_1/certify": [4]}
    return render(ports, port=5, folder=Path("/f"), stats=6, metrics=7, **given)  # type: ignore[arg-type]


def test_hardening_twice_changes_nothing_more() -> None:
    once = harden(rendered(), LIMITS, secret=SECRET, errors="/f")
    assert once.startswith(MARK)
    assert harden(once, LIMITS, secret=SECRET, errors="/f") == once


@pytest.mark.parametrize(
    "line",
    [
        "mode 666 level admin",
        "tune.bufsize",
        "maxconn 4096",
        "option httplog",
        "retry-on",
        "bind *:6",
        "bind :7",
        "bind 127.0.0.1:5",
    ],
)
def test_a_configuration_without_a_line_that_must_change_is_refused(line: str) -> None:
    assert line in rendered()
    with pytest.raises(ValueError, match=r"has no line like .* install ray\[serve\] 2.60"):
        harden(rendered().replace(line, "another"), LIMITS, secret=SECRET, errors="/f")


def test_nothing_but_the_service_listens_beyond_this_machine() -> None:
    text = harden(rendered(grpc=8), LIMITS, secret=SECRET, errors="/f")
    assert re.findall(r"bind (\S+)", text) == ["127.0.0.1:7", "127.0.0.1:5", "127.0.0.1:8", "127.0.0.1:6"]
    assert "mode 600 level admin" in text


def test_times_are_limited() -> None:
    text = harden(rendered(), LIMITS, secret=SECRET, errors="/f")
    found = dict(re.findall(r"^    timeout (\S+) (\d+)s$", text, re.MULTILINE))
    assert found == {
        **{"connect": "5", "client": "30", "http-keep-alive": "30"},
        **{"http-request": "2", "queue": "5", "server": "10", "check": "5"},
    }


def test_tls_and_client_certificates_are_asked_for() -> None:
    limits = Limits(certificate="/c.pem", client_authorities="/a.pem")
    text = harden(rendered(), limits, secret=SECRET, errors="/f")
    assert 'bind 127.0.0.1:5 ssl crt "/c.pem" alpn http/1.1 ca-file "/a.pem" verify required' in text


def test_haproxy_accepts_the_configuration_with_grpc_and_tls(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, SHA256())
    pem = made.public_bytes(Encoding.PEM)
    (tmp_path / "c.pem").write_bytes(
        pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "a.pem").write_bytes(pem)
    limits = Limits(certificate=str(tmp_path / "c.pem"), client_authorities=str(tmp_path / "a.pem"))
    file = tmp_path / "haproxy.cfg"
    servers = {"/": [1], PREDICT: [2, 3]}
    file.write_text(render(servers, port=5, folder=tmp_path, stats=6, metrics=7, grpc=8))
    environment = {**os.environ, SECRET_VARIABLE: SECRET, VARIABLE: limits.to_json(), "ASSAY_PYTHON": sys.executable}
    done = subprocess.run([SCRIPT, "-c", "-f", file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("secret", ["", "short", "has space has space", 'quote"quote"quote"'])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="the secret of the proxy must have at least 16"):
        harden(rendered(), LIMITS, secret=secret, errors="/f")


def test_every_file_of_errors_is_in_our_form() -> None:
    for name, content in error_files(LIMITS).items():
        head, _, body = content.partition(b"\r\n\r\n")
        assert b"Content-Type: application/json" in head and body.startswith(b'{"error": ')
        assert (b"Retry-After: 1" in head) == (name in ("429.http", "503.http"))


def test_the_configuration_is_the_users_own(front: Proxy) -> None:
    """It holds the secret; and whoever writes to the admin socket commands HAProxy."""
    for name in ("haproxy.cfg", "admin.sock"):
        assert stat.S_IMODE((front.folder / name).stat().st_mode) == 0o600


def test_the_wrapper_says_what_is_wrong_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "c").write_text(rendered())
    environment = {**os.environ, SECRET_VARIABLE: SECRET, VARIABLE: '{"body": 0}'}
    done = subprocess.run([SCRIPT, "-f", tmp_path / "c"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "HAProxy is not started: body must be a whole number of at least 1, not 0" in done.stderr


def test_a_call_reaches_the_deployment_of_its_verb(front: Proxy) -> None:
    for path, inner in {
        "/v1/models/M:predict": f"{PREDICT}/v1/models/M:predict",
        "/v1/models/M/versions/2:predict": f"{PREDICT}/v1/models/M/versions/2:predict",
        "/v1/models/M%3Apredict": f"{PREDICT}/v1/models/M%3Apredict",
        "/v2/models/M": f"{PREDICT}/v2/models/M",
        "/v2/models/M/infer": f"{PREDICT}/v2/models/M/infer",
        "/v2/models/M/versions/2/infer": f"{PREDICT}/v2/models/M/versions/2/infer",
        "/v1/models/M:explain": f"{EXPLAIN}/v1/models/M:explain",
        "/v1/models/M:answer": f"{EXPLAIN}/v1/models/M:answer",
        # No deployment certifies, and there is no model N: the front answers.
        "/v1/models/M:certify": "/v1/models/M:certify",
        "/v1/models/N:predict": "/v1/models/N:predict",
        "/v1/models/M/card": "/v1/models/M/card",
        "/v2/models/MM/infer": "/v2/models/MM/infer",
        "/": "/",
    }.items():
        assert call(front.port, request(path)).json["path"] == inner


@pytest.mark.parametrize(
    "path", [f"{PREDICT}/v1/models/M:predict", "/models/", "/%6dodels/M/predict", "/-/routes", "/%2d/routes", "/-/x"]
)
def test_inner_paths_are_closed_to_callers(front: Proxy, replicas: dict[str, Replica], path: str) -> None:
    answer = call(front.port, request(path))
    assert (answer.status, answer.error) == (404, "there is nothing at this path")
    assert not any(replica.received for replica in replicas.values())


def test_health_is_answered_while_all_replicas_are_busy(front: Proxy, replicas: dict[str, Replica]) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(call, front.port, request("/", b"{}", b"X-Do: wait1")) for _ in range(4)]
        while replicas["front"].working < 2:
            time.sleep(0.01)
        for kind in ("live", "ready"):
            answer = call(front.port, request(f"/v2/health/{kind}", method="GET"))
            assert (answer.status, answer.json) == (200, {kind: True})
            assert replicas["front"].working == 2
        assert [one.result().status for one in busy] == [200] * 4


def test_a_service_without_replicas_is_alive_and_not_ready(tmp_path: Path) -> None:
    with proxy(tmp_path, {"/": []}, LIMITS) as alone:
        assert call(alone.port, request("/v2/health/live", method="GET")).status == 200
        assert call(alone.port, request("/v2/health/ready", method="GET")).json == {"ready": False}
        answer = call(alone.port, request("/Ada%20Lovelace"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "Ada" not in answer.error


def test_a_service_that_knows_of_no_application_yet_does_not_deny_that_a_model_exists(tmp_path: Path) -> None:
    with proxy(tmp_path, {}, LIMITS) as running:
        answer = call(running.port, request("/v1/models/M:predict", b"{}"))
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
    assert "return status 404" in harden(rendered(), LIMITS, secret=SECRET, errors="/f").partition("backend default")[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal is Linux's")
def test_haproxy_ends_when_the_process_dies_that_started_it(tmp_path: Path) -> None:
    """As where Ray's head dies, and its actor with it: the port is free again."""
    starting = (
        "import pathlib, subprocess, sys; own = subprocess.Popen(sys.argv[2:]);"
        "pathlib.Path(sys.argv[1]).write_text(str(own.pid)); own.wait()"
    )
    told = tmp_path / "pid"
    with proxy(tmp_path, {"/": [1]}, LIMITS, by=(sys.executable, "-c", starting, str(told))) as running:
        running.process.kill()
        deadline = time.monotonic() + 10
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                socket.create_connection(("127.0.0.1", running.port), timeout=5).close()
                time.sleep(0.05)
            os.kill(int(told.read_text()), signal.SIGKILL)
            raise AssertionError("HAProxy holds the port")


def test_a_queue_that_is_full_refuses_at_once(front: Proxy, replicas: dict[str, Replica]) -> None:
    """Case 7: of forty calls, two are worked on, three wait, the others are told when to come back."""
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(
            pool.map(lambda _: call(front.port, request("/v1/models/M:explain", b"{}", b"X-Do: wait1")), range(40))
        )
    assert replicas["explain"].most_working <= 2
    refused = [one for one in answers if one.status == 503]
    assert {one.status for one in answers} == {200, 503}
    assert 5 <= len(answers) - len(refused) <= 10
    assert all(one.headers["retry-after"] == "1" for one in refused)
    assert max(one.seconds for one in refused) < max(one.seconds for one in answers if one.status == 200)
    assert "busy" in refused[0].error


def test_a_body_that_announces_too_much_is_refused_before_it_comes(front: Proxy) -> None:
    answer = call(front.port, request(length=10**12))
    assert answer.status == 413
    assert answer.error == "the body is longer than 200000 bytes; send fewer records at a time"


def test_a_body_in_chunks_is_cut_at_the_limit(front: Proxy, replicas: dict[str, Replica]) -> None:
    """Case 6: nothing of it reaches a replica."""
    chunk = b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n"
    answer = call(
        front.port, request("/", b"", b"Transfer-Encoding: chunked", method="PUT").replace(b"PUT", b"POST") + 8 * chunk
    )
    assert answer.status == 413 and answer.error
    assert not replicas["front"].received


def test_a_body_of_the_greatest_length_passes(front: Proxy, replicas: dict[str, Replica]) -> None:
    body = os.urandom(LIMITS.body)
    assert call(front.port, request("/", body)).status == 200
    chunks = b"".join(b"%x\r\n" % 1000 + body[at : at + 1000] + b"\r\n" for at in range(0, len(body), 1000))
    assert call(front.port, CHUNKED + chunks + b"0\r\n\r\n").status == 200
    assert [received for _, _, received in replicas["front"].received] == [body, body]


def test_long_uploads_take_little_memory(front: Proxy) -> None:
    """Case 6 again: 32 callers that send without end."""
    before = front.memory

    def upload(_: int) -> int:
        return call(front.port, CHUNKED + (b"%x\r\n" % 1_000_000 + bytes(1_000_000) + b"\r\n") * 4).status

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert set(pool.map(upload, range(32))) == {413}
    assert front.memory - before < 50 << 20


@pytest.mark.parametrize("size", [1, 3])
def test_small_chunks_cost_little(front: Proxy, replicas: dict[str, Replica], size: int) -> None:
    """Case 8."""
    many = LIMITS.body // size
    answer = call(front.port, CHUNKED + (b"%x\r\n" % size + b"a" * size + b"\r\n") * many + b"0\r\n\r\n")
    assert answer.status == 200
    assert len(replicas["front"].received[0][2]) == many * size


def test_long_bodies_of_one_address_leave_room_for_those_of_others(front: Proxy) -> None:
    body = b"1" * 100_000
    with held_long(front.port, LIMITS.long_bodies_per_address):
        assert call(front.port, request("/", body)).status == 503
        assert call(front.port, request("/", b"{}")).status == 200
        assert call(front.port, request("/", body), source="127.0.0.2").status == 200
    assert call(front.port, request("/", body)).status == 200


def test_slow_bodies_take_no_place(front: Proxy, replicas: dict[str, Replica]) -> None:
    """Case 5: each is cut in time; meanwhile others are answered as usual."""
    connections = []
    for _ in range(60):
        one = socket.create_connection(("127.0.0.1", front.port))
        one.sendall(request("/v1/models/M:explain", b"1", length=100_000))
        connections.append(one)
    start, done = time.monotonic(), threading.Event()

    def drip() -> None:
        while not done.wait(0.2):
            for one in connections:
                with contextlib.suppress(OSError):
                    one.sendall(b"1")

    dripping = threading.Thread(target=drip)
    dripping.start()
    healthy = [call(front.port, request("/v1/models/M:explain", b"{}")) for _ in range(30)]
    answers = [one.recv(1000) for one in connections]
    seconds = time.monotonic() - start
    done.set()
    dripping.join()
    for one in connections:
        one.close()
    assert {one.status for one in healthy} == {200}
    assert all(answer.startswith(b"HTTP/1.1 408") and b'{"error"' in answer for answer in answers)
    assert seconds < 20  # and not the minute that a byte every two seconds would take
    assert len(replicas["explain"].received) == 30


def test_slow_headers_are_cut(front: Proxy) -> None:
    answer = call(front.port, b"POST / HTTP/1.1\r\nHost: localhost\r\n", then=b"X: 1\r\n", after=0.2)
    assert answer.status == 408 and answer.seconds < 20


@pytest.mark.slow  # the limit itself: test_times_are_limited
def test_an_answer_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    replica = Replica().start()
    with proxy(tmp_path, {"/": [replica.port]}, Limits(answer_seconds=1)) as front:
        # Five seconds more than the replica has itself, so that the replica's own answer comes first.
        answer = call(front.port, request("/", b"{}", b"X-Do: wait30"))
    assert answer.status == 504
    assert answer.error == "the model did not answer in time"


@pytest.mark.parametrize(
    "data",
    [
        request("/", b"hello", b"Content-Length: 6"),
        b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAda y: b\r\n\r\n",
        b"GET /Ada\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        request("/", b"", *[b"X: Ada"] * 5000),
        request("/", b"", b"X: " + b"Ada" * 3_000_000),
    ],
    ids=lambda value: str(value[:60]),
)
def test_what_is_no_http_gets_a_fixed_short_answer(front: Proxy, replicas: dict[str, Replica], data: bytes) -> None:
    """Cases 9, 10: HAProxy refuses these before there is a request; its own text cannot be set, and repeats nothing."""
    before = front.memory
    answer = call(front.port, data)
    assert answer.status in (400, 422)
    assert len(answer.body) < 200 and b"Ada" not in answer.body
    assert not replicas["front"].received
    assert front.memory - before < 10 << 20


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (request("/", method="DELETE"), 405),
        (request("/", b"x", b"Content-Encoding: gzip"), 415),
        (request("/", b"", b"X: " + b"a" * 20_000), 431),
        (request("/", b"", b"X-Request-ID: " + b"a" * 129), 400),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes) else "",
)
def test_calls_that_nobody_needs_are_refused(
    front: Proxy, replicas: dict[str, Replica], data: bytes, status: int
) -> None:
    """Cases 10, 27, 43."""
    answer = call(front.port, data)
    assert answer.status == status
    assert answer.error
    assert not replicas["front"].received


def test_two_ways_of_giving_a_length_cannot_smuggle_a_request(front: Proxy, replicas: dict[str, Replica]) -> None:
    """Case 9: HAProxy follows RFC 9112, 6.3: the chunks count, the other length is removed, the connection ends."""
    hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(hidden)
    answer = call(front.port, head + hidden)
    assert answer.closed
    time.sleep(0.2)
    assert [path for path, _, _ in replicas["front"].received] == ["/"]
    assert "content-length" not in replicas["front"].received[0][1]


def test_replicas_learn_from_the_proxy_alone_who_calls(front: Proxy) -> None:
    """Cases 11, 12: what callers say of themselves is removed."""
    told = [
        b"X-Forwarded-For: 10.0.0.9",
        b"x-forwarded-for: 10.0.0.8",
        b"Forwarded: for=10.0.0.9",
        b"X-Real-IP: 1.1.1.1",
    ]
    told += [b"X-Forwarded-Proto: https", b"X-Assay-Proxy: guess", b"X-Assay-Caller: admin", b"Upgrade: websocket"]
    told += [b"x-request-timeout-seconds: -1", b"X-Request-Disconnect-Disabled: ?1", b"X-Session-Id: 1"]
    told += [b"serve_multiplexed_model_id: \xff", b"serve-multiplexed-model-id: \xff"]
    headers = call(front.port, request("/", b"{}", *told)).json["headers"]
    assert headers.pop("x-request-id") and headers.pop("x-assay-call")
    assert headers == {
        "host": "localhost",
        "content-length": "2",
        "x-forwarded-for": "127.0.0.1",
        "x-assay-proxy": SECRET,
    }


def test_a_reverse_proxy_that_is_trusted_tells_who_calls(tmp_path: Path) -> None:
    replica = Replica().start()
    with proxy(tmp_path, {"/": [replica.port]}, Limits(trusted_proxies=("127.0.0.0/8",))) as front:
        headers = call(front.port, request("/", b"", b"X-Forwarded-For: 1.1.1.1, 10.0.0.9")).json["headers"]
        assert headers["x-forwarded-for"] == "10.0.0.9"
        headers = call(front.port, request("/", b"", b"X-Forwarded-For: Ada")).json["headers"]
        assert headers["x-forwarded-for"] == "127.0.0.1"


def test_request_ids_that_are_no_words_are_replaced(front: Proxy) -> None:
    """Case 27."""
    kept = call(front.port, request("/", b"", b"X-Request-ID: a-1_B.9")).json["headers"]["x-request-id"]
    assert kept == "a-1_B.9"
    for name in (b"Ada Lovelace 1815", b"\xff", b"", b"a,b", b"1\tb"):
        made = call(front.port, request("/", b"", b"X-Request-ID: " + name)).json["headers"]["x-request-id"]
        assert re.fullmatch(r"[0-9a-f-]{36}", made)
    twice = request("/", b"", b"X-Request-ID: a", b"X-Request-ID: b")
    assert re.fullmatch(r"[0-9a-f-]{36}", call(front.port, twice).json["headers"]["x-request-id"])


@pytest.mark.parametrize("status", [404, 408, 429, 500, 503])
def test_errors_of_serve_itself_come_in_our_form(front: Proxy, status: int) -> None:
    """Case 28: neither the path nor a traceback."""
    answer = call(front.port, request("/Ada%20Lovelace", b"{}", b"X-Do: %d" % status, b"X-Request-ID: r1"))
    assert answer.status == status
    assert "Ada" not in answer.error and "Traceback" not in answer.error
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert answer.headers["x-request-id"] == "r1"


def test_our_own_errors_pass_unchanged(front: Proxy) -> None:
    answer = call(front.port, request("/", b"{}", b"X-Do: json422"))
    assert (answer.status, answer.error) == (422, "ours")


def test_a_call_is_sent_to_a_second_replica_when_the_first_dies(front: Proxy, replicas: dict[str, Replica]) -> None:
    answer = call(front.port, request("/v1/models/M:predict", b"{}", b"X-Do: die"))
    assert answer.status in (502, 503) and answer.error
    received = [replicas[name].received for name in ("predict", "other")]
    assert [len(calls) for calls in received] == [1, 1]
    # By it both know that it is one call, for which a token that is used once is used once.
    words = {headers["x-assay-call"] for calls in received for _, headers, _ in calls}
    assert len(words) == 1


def test_each_deployment_shows_its_figures_at_a_path_of_its_own(front: Proxy, replicas: dict[str, Replica]) -> None:
    for path in ("/metrics", "/metrics/M/explain", "/metrics/M/certify", "/metrics/M/explain/more"):
        call(front.port, request(path, method="GET"))
    # Nothing certifies here: the front says that there is no such path.
    asked = ["/metrics", "/metrics/M/certify", "/metrics/M/explain/more"]
    assert [path for path, _, _ in replicas["front"].received] == asked
    assert [path for path, _, _ in replicas["explain"].received] == [f"{EXPLAIN}/metrics"]


def test_the_word_of_a_call_is_made_by_haproxy_alone(front: Proxy, replicas: dict[str, Replica]) -> None:
    for _ in range(2):
        call(front.port, request("/v2/x", b"{}", b"X-Assay-Call: mine", b"X-Request-ID: mine"))
    words = {headers["x-assay-call"] for _, headers, _ in replicas["front"].received}
    assert len(words) == 2 and not any("mine" in word for word in words)


def test_a_call_that_may_change_something_is_sent_once(front: Proxy, replicas: dict[str, Replica]) -> None:
    """HAProxy closes the connection where it had used that to the replica before, so that the caller may decide."""
    with contextlib.suppress(ConnectionError):
        assert call(front.port, request("/v2/repository/models/M/load", b"{}", b"X-Do: die")).status == 502
    assert len(replicas["front"].received) == 1


def test_one_address_cannot_take_all_connections(tmp_path: Path) -> None:
    replica = Replica().start()
    with proxy(tmp_path, {"/": [replica.port]}, Limits(connections_per_address=20)) as front:
        held = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(20)]
        for one in held:
            one.sendall(request())
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            call(front.port, request())
        for one in held:
            one.close()


def test_one_address_cannot_call_without_end(tmp_path: Path) -> None:
    replica = Replica().start()
    with proxy(tmp_path, {"/": [replica.port]}, Limits(requests_per_second=2)) as front:
        answers = [call(front.port, request()) for _ in range(25)]
    assert [one.status for one in answers] == [200] * 20 + [429] * 5
    assert answers[-1].headers["retry-after"] == "1"


def test_the_log_holds_no_path(tmp_path: Path) -> None:
    """Case 29."""
    replica = Replica().start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(10)
        with proxy(tmp_path, {"/": [replica.port]}, LIMITS, log_port=log.getsockname()[1]) as front:
            call(front.port, request("/v1/models/Ada%20Lovelace:predict?name=Ada", b"{}", b"X-Request-ID: Ada"))
            lines = log.recv(4096)
            while b"http_frontend" not in lines:
                lines = log.recv(4096)
    assert b" 200 " in lines
    assert b"Ada" not in lines
