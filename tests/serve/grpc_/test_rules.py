"""What holds for every call over gRPC: who may call, deadlines, the decision log, figures, the port."""

import asyncio
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from assay.errors import UserError
from serve.audit_log.decision import Decision, LogFullError
from serve.audit_log.decision import Refused as Uncounted
from serve.auth.authenticator import Authenticator
from serve.auth.settings import AuthSettings
from serve.auth.tokens import add_token
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.authorising import Allowed, Authorise, Metadata, address_of, loopback_only
from serve.grpc_.server import start_grpc
from serve.grpc_.tokens import TokenRule
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from tests.serve.grpc_.calls import SECRET, Loop, arrays, infer, raw, served


@dataclass(frozen=True)
class Refused:
    """A refusal as another module would give it."""

    status: int
    message: str = "not you"


async def _waits(metadata: Metadata, peer: str) -> Refused | None:
    return None if dict(metadata).get("authorization") == "Bearer right" else Refused(401)


def _breaks(metadata: Metadata, peer: str) -> None:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    ("rule", "metadata", "status"),
    [
        (lambda metadata, peer: Refused(403), (), grpc.StatusCode.PERMISSION_DENIED),
        (lambda metadata, peer: Refused(429), (), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (lambda metadata, peer: Refused(503), (), grpc.StatusCode.UNAVAILABLE),
        (_waits, (("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        (_waits, (("authorization", "Bearer right"),), None),
        (_breaks, (), grpc.StatusCode.INTERNAL),
        (loopback_only, (), None),
    ],
)
def test_each_call_is_judged_before_it_is_read(
    loop: Loop, online: Online, rule: Authorise, metadata: Any, status: grpc.StatusCode | None
) -> None:
    with served(loop, Loaded([online]), authorise=rule) as call:
        for name in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name:
            if status is None:
                request = infer() if name == "ModelInfer" else None
                asked = {"ModelReady": pb.ModelReadyRequest, "ModelMetadata": pb.ModelMetadataRequest}
                call(name, asked[name](name="standard") if name in asked else request, metadata=metadata)
                continue
            with pytest.raises(grpc.RpcError) as caught:
                call(name, b"\xff\xff", metadata=metadata)
            error: Any = caught.value
            assert error.code() is status and SECRET not in error.details()


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv4:127.0.0.2:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("unix:", True),
        ("ipv4:10.0.0.7:5000", False),
        ("ipv6:%5B2001:db8::1%5D:5000", False),
        ("ipv4:localhost:5000", False),
        ("", False),
    ],
)
def test_callers_are_known_by_their_address(peer: str, here: bool) -> None:
    assert (loopback_only((), peer) is None) == here
    assert "[" not in address_of(peer)


def test_a_call_ends_at_its_deadline_and_leaves_the_queue(
    loop: Loop, online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, left = threading.Event(), threading.Event()

    async def stands(*_: Any) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    monkeypatch.setattr(Online, "logits", stands)
    with served(loop, Loaded([online])) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call("ModelInfer", infer(), timeout=0.5)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert began.wait(5) and left.wait(5), "the work of a caller that has gone ends"
        monkeypatch.setattr("serve.grpc_.server.LONGEST", 0.2)
    with served(loop, Loaded([online])) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call("ModelInfer", infer())
        error = caught.value
        assert (error.code(), error.details()) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the model did not answer in time",
        )


def test_calls_are_told_by_names_of_ours_only(loop: Loop, online: Online) -> None:
    told: list[tuple[str, str, int]] = []
    observe = lambda call, model, status, seconds: told.append((call, model, status))
    with served(loop, Loaded([online]), observe=observe) as call:
        call("ModelInfer", infer())
        with pytest.raises(grpc.RpcError):
            call("ModelInfer", infer(model_name=SECRET))
    assert told == [("model_infer", "standard", 200), ("model_infer", "", 404)]


def test_answers_and_refusals_are_in_the_decision_log(loop: Loop, online: Online, x: np.ndarray) -> None:
    noted: list[Any] = []
    done: Future[None] = Future()
    done.set_result(None)
    log = lambda said: noted.append(said) or done
    rule = lambda metadata, peer: Allowed("ward 7")
    with served(loop, Loaded([online]), authorise=rule, log=log) as call:
        request = raw(x.tobytes(), shape=[5, 30])
        answer = call("ModelInfer", request, metadata=(("x-request-id", "r-1"),))
        call("ServerLive")
        with pytest.raises(grpc.RpcError):
            call("ModelInfer", infer(model_name=SECRET))
    decision, refused = noted
    assert (decision.model, decision.version, decision.call, decision.token) == ("standard", "1", "infer", "ward 7")
    assert (decision.body, decision.request_id) == (request.SerializeToString(), "r-1")
    assert list(decision.classes) == arrays(answer)["class_index"].tolist() and len(decision.records) == 5
    assert refused == Uncounted(404)

    def full(said: Any) -> None:
        if isinstance(said, Decision):
            raise LogFullError("the decision log cannot be written")

    with served(loop, Loaded([online]), log=full) as call, pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", infer())
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE and "decision log" in error.details()


def test_a_token_opens_the_calls_that_it_allows(loop: Loop, online: Online, tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")
    secrets = {scope: add_token(file, scope, scopes=[scope], days=None) for scope in ("predict", "explain")}
    settings = AuthSettings(tokens=file, per_second=0.01, burst=3)
    rule = TokenRule(Authenticator(settings), public=False)
    statuses = []
    with served(loop, Loaded([online]), authorise=rule) as call:
        assert call("ModelInfer", infer(), metadata=(("authorization", f"Bearer {secrets['predict']}"),)).outputs
        for sent in (["explain"], ["predict", "predict"], [], ["predict"], ["predict"], ["predict"]):
            metadata = [("authorization", f"Bearer {secrets[one]}") for one in sent]
            try:
                call("ServerLive", metadata=metadata)
                statuses.append("OK")
            except grpc.RpcError as error:
                code: Any = error
                statuses.append(code.code().name)
    assert statuses == [
        "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAUTHENTICATED", "OK", "OK", "RESOURCE_EXHAUSTED",
    ]  # fmt: skip


def test_a_port_that_is_taken_is_refused(loop: Loop, online: Online) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as caught:
            loop.run(start_grpc(Loaded([online]), "127.0.0.1", port))
    assert (caught.value.setting, caught.value.given) == ("grpc_port", port)
    server = loop.run(start_grpc(Loaded([online]), "127.0.0.1", 0))
    with pytest.raises(UserError):
        loop.run(start_grpc(Loaded([online]), "127.0.0.1", server.port))
    loop.run(server.stop(0))
