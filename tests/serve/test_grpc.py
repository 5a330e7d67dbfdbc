"""The Open Inference Protocol over gRPC: the answers of REST, errors by their statuses, limits, and who may call."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
import pytest

from assay.errors import UserError
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.batching import FullError
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.authorising import Authorise, Metadata, address_of, loopback_only
from serve.grpc_.server import MOST_BYTES, GrpcServer, start_grpc
from serve.grpc_.service import SERVICE
from serve.model import NoFiniteAnswerError, ServedModel
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online

SECRET = "Ada Lovelace"
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def online(finished: Finished) -> Online:
    return bring_online(finished, name="standard", version="1")


@pytest.fixture(scope="module")
def x(finished: Finished) -> np.ndarray:
    """Five test records."""
    return np.asarray(finished.dataset.x[finished.split.test[:5]])


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine to its end."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        """Ends the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    own = Loop()
    yield own
    own.close()


@contextmanager
def served(loop: Loop, loaded: Loaded, **settings: Any) -> Iterator[Call]:
    """Calls of a server: ``call(name, request)``."""
    server: GrpcServer = loop.run(start_grpc(loaded, "127.0.0.1", 0, **settings))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:

            def call(name: str, request: Any = None, **options: Any) -> Any:
                method = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[name]
                ask = channel.unary_unary(
                    f"/{SERVICE}/{name}",
                    request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
                    response_deserializer=getattr(pb, method.output_type.name).FromString,
                )
                request = getattr(pb, method.input_type.name)() if request is None else request
                return ask(request, **{"timeout": 30, **options})

            yield call
    finally:
        loop.run(server.stop(0))


@pytest.fixture(scope="module")
def call(loop: Loop, online: Online, finished: Finished) -> Iterator[Call]:
    older = bring_online(finished, name="standard", version="2")
    with served(loop, Loaded([online, older])) as calls:
        yield calls


def infer(**changed: Any) -> Any:
    """A request with one record."""
    tensor: dict[str, Any] = {"name": "records", "datatype": "FP32", "shape": [1, 30]}
    tensor |= {"contents": {"fp32_contents": [0.0] * 30}} | changed.pop("tensor", {})
    return pb.ModelInferRequest(**{"model_name": "standard", "inputs": [tensor], **changed})


def arrays(answer: Any) -> dict[str, np.ndarray]:
    """The outputs of an answer, raw or not."""
    found = {}
    for place, output in enumerate(answer.outputs):
        kind, field = {"FP32": ("<f4", "fp32_contents"), "INT64": ("<i8", "int64_contents")}[output.datatype]
        if answer.raw_output_contents:
            assert not output.contents.ListFields()
            values = np.frombuffer(answer.raw_output_contents[place], kind)
        else:
            values = np.array(getattr(output.contents, field), kind)
        found[output.name] = values.reshape(output.shape)
    return found


@pytest.mark.parametrize(
    "sent",
    [
        lambda x: {"tensor": {"contents": {"fp32_contents": x.ravel()}, "shape": x.shape}},
        lambda x: {"tensor": {"contents": {"fp64_contents": x.ravel()}, "datatype": "FP64", "shape": x.shape}},
        lambda x: {"tensor": {"contents": None, "shape": x.shape}, "raw_input_contents": [x.tobytes()]},
        lambda x: {
            "tensor": {"contents": None, "shape": x.shape, "datatype": "FP64"},
            "raw_input_contents": [x.astype("<f8").tobytes()],
        },
    ],
)
def test_answers_are_those_of_the_model(call: Call, finished: Finished, x: np.ndarray, sent: Any) -> None:
    answer = call("ModelInfer", infer(id="call 7", **sent(x)))
    assert (answer.model_name, answer.model_version, answer.id) == ("standard", "1", "call 7")
    assert answer.parameters["artefact"].string_param == finished.artefact
    found = arrays(answer)
    expected = ServedModel(finished).probabilities(finished.subject.logits(finished.split.test[:5]).astype(np.float32))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert found["class_index"].tolist() == expected.argmax(1).tolist()
    assert bool(answer.raw_output_contents) == ("raw_input_contents" in sent(x))


def test_outputs_come_as_they_are_asked_for(call: Call) -> None:
    one = call("ModelInfer", infer(outputs=[{"name": "class_index"}]))
    assert [output.name for output in one.outputs] == ["class_index"] and not one.raw_output_contents
    raw = call("ModelInfer", infer(parameters={"binary_data_output": pb.InferParameter(bool_param=True)}))
    assert len(raw.raw_output_contents) == 2
    wanted = [{"name": "class_index", "parameters": {"binary_data": pb.InferParameter(bool_param=True)}}]
    assert len(call("ModelInfer", infer(outputs=wanted)).raw_output_contents) == 1


def test_health_metadata_and_versions(call: Call) -> None:
    assert call("ServerLive").live and call("ServerReady").ready
    about = call("ServerMetadata")
    assert (about.name, list(about.extensions)) == ("assay", ["binary_tensor_data", "model_repository"])
    model = call("ModelMetadata", pb.ModelMetadataRequest(name="standard"))
    assert (list(model.versions), model.platform) == (["1", "2"], "pytorch")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("records", "FP32", [-1, 30])]
    for version in ("", *model.versions):
        assert call("ModelReady", pb.ModelReadyRequest(name="standard", version=version)).ready
        assert call("ModelInfer", infer(model_version=version)).model_version == (version or "1")
    entries = call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)).models
    assert [(one.name, one.version, one.state) for one in entries] == [
        ("standard", "1", "READY"),
        ("standard", "2", "READY"),
    ]


def raw(content: bytes, **tensor: Any) -> Any:
    return infer(tensor={"contents": None, **tensor}, raw_input_contents=[content])


ZEROS = b"\0" * 120
INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED: dict[str, tuple[Any, grpc.StatusCode, str]] = {
    "unknown model": (infer(model_name=SECRET), grpc.StatusCode.NOT_FOUND, "this server has 'standard'"),
    "unknown version": (infer(model_version=SECRET), grpc.StatusCode.NOT_FOUND, "loaded: '1', '2'"),
    "no message": (b"\xff\xff\xff", INVALID, "ModelInferRequest"),
    "no input": (pb.ModelInferRequest(model_name="standard"), INVALID, "inputs"),
    "name": (infer(tensor={"name": SECRET}), INVALID, "'records'"),
    "datatype": (infer(tensor={"datatype": "FP16"}), INVALID, "'FP32', 'FP64' or 'BYTES'"),
    "contents of another datatype": (infer(tensor={"datatype": "FP64"}), INVALID, "fp64_contents"),
    "texts": (infer(tensor={"datatype": "BYTES", "contents": {"bytes_contents": [b"a"]}}), INVALID, "FP32 or FP64"),
    "many texts": (
        infer(tensor={"datatype": "BYTES", "contents": {"bytes_contents": [b""] * 9999}}), INVALID, "256 records"),
    "no contents": (infer(tensor={"contents": None}), INVALID, "fp32_contents"),
    "shape": (infer(tensor={"shape": [1, 29]}), INVALID, "[records, 30]"),
    "shape negative": (infer(tensor={"shape": [-1, 30]}), INVALID, "greater than or equal to 1"),
    "shape 2^63": (infer(tensor={"shape": [2**63 - 1, 30]}), INVALID, "1 to 256 records"),
    "shape long": (infer(tensor={"shape": [1] * 100_000}), INVALID, "at most 8"),
    "count": (infer(tensor={"shape": [2, 30]}), INVALID, "240 bytes"),
    "raw too short": (raw(ZEROS[:-1]), INVALID, "120 bytes"),
    "raw too long": (raw(ZEROS + b"\0"), INVALID, "120 bytes"),
    "raw NaN": (raw(struct.pack("<f", np.nan) * 30), INVALID, "NaN"),
    "raw big-endian": (raw(struct.pack(">f", 1) * 30), INVALID, "little-endian"),
    "raw and contents": (infer(raw_input_contents=[ZEROS]), INVALID, "sent once"),
    "raw twice": (infer(tensor={"contents": None}, raw_input_contents=[ZEROS] * 2), INVALID, "sent once"),
    "size": (raw(ZEROS, parameters={"binary_data_size": pb.InferParameter(int64_param=4)}), INVALID, "the length"),
    "out of bounds": (raw(struct.pack("<f", 4321.5) * 30), INVALID, "'mean radius' is not a number"),
    "parameter": (infer(parameters={SECRET: pb.InferParameter(int64_param=4)}), INVALID, "binary_data_output"),
    "classification": (
        infer(outputs=[{"name": "probabilities", "parameters": {"classification": pb.InferParameter(int64_param=2)}}]),
        INVALID, "none but binary_data"),
    "mixed": (
        infer(outputs=[{"name": "probabilities", "parameters": {"binary_data": pb.InferParameter(bool_param=True)}},
                       {"name": "class_index"}]), INVALID, "all outputs are raw"),
    "output": (infer(outputs=[{"name": SECRET}]), INVALID, "'class_index'"),
    "output twice": (infer(outputs=[{"name": "probabilities"}] * 2), INVALID, "once"),
    "many outputs": (infer(outputs=[{}] * 10_000), INVALID, "at most 8"),
    "id": (infer(id="\u202e"), INVALID, "printable"),
    "long id": (infer(id="a" * 129), INVALID, "printable"),
    "long message": (raw(b"\0" * MOST_BYTES), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_has_its_status_and_repeats_nothing(call: Call, case: str) -> None:
    request, status, said = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", request)
    error: Any = caught.value
    assert error.code() is status, error.details()
    assert said in error.details()
    assert SECRET not in error.details() and len(error.details()) < 1100


@dataclass(frozen=True)
class Refused:
    """A refusal as another module would give it."""

    status: int
    message: str = "not you"


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (FullError("9 records wait; at most 8 may"), grpc.StatusCode.UNAVAILABLE),
        (NoFiniteAnswerError("no finite answer"), grpc.StatusCode.INTERNAL),
        (RuntimeError(SECRET), grpc.StatusCode.INTERNAL),
    ],
)
def test_what_fails_in_the_model_tells_nothing_else(
    call: Call, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: grpc.StatusCode
) -> None:
    def fails(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(ServedModel, "logits", fails)
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", infer())
    error: Any = caught.value
    assert error.code() is status and SECRET not in error.details()


def test_a_model_that_answers_otherwise_is_not_ready(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServedModel, "logits", lambda self, x: np.full((len(x), 2), 9, np.float32))
    assert not call("ServerReady").ready


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


def test_many_callers_share_batches(loop: Loop, online: Online, x: np.ndarray) -> None:
    sizes: list[int] = []
    model = replace(online)
    predict = model._predict
    object.__setattr__(model, "_predict", lambda x, key: sizes.append(len(x)) or predict(x, key))
    with served(loop, Loaded([model])) as call:
        results: list[Any] = [None] * 16

        def work(place: int) -> None:
            request = raw(x[place % 5].tobytes())
            results[place] = [arrays(call("ModelInfer", request))["probabilities"] for _ in range(8)]

        threads = [threading.Thread(target=work, args=(place,)) for place in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = model.model.probabilities(model.model.logits(model.model.read(x.tolist()).x))
    for place, found in enumerate(results):
        for one in found:
            np.testing.assert_allclose(one, expected[[place % 5]], atol=1e-6)
    assert sum(sizes) == 128
