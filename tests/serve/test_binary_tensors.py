"""Binary tensors of the Open Inference Protocol: the answers of JSON without JSON, and sizes that are checked first."""

import json
import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.api import create_api
from serve.inputs.binary import HEADER, array_from, texts_from
from serve.inputs.strict_json import LONGEST_STRING
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

INFER = "/v2/models/standard/infer"
ALL_BINARY = {"binary_data_output": True}


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def client(finished: Finished) -> TestClient:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def x(finished: Finished) -> np.ndarray:
    """Five test records."""
    return np.asarray(finished.dataset.x[finished.split.test[:5]])


def tensor(raw: bytes, **changed: Any) -> dict[str, Any]:
    about = {"name": "records", "shape": [1, 30], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    return {"inputs": [about | changed]}


def send(client: TestClient, asked: Any, raw: bytes, length: Any = None, content_type: str | None = None) -> Any:
    """Sends JSON, then raw bytes, with the length of the JSON as a header."""
    header = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    said = str(len(header) if length is None else length) if not isinstance(length, bytes) else length
    headers: list[tuple[Any, Any]] = [(HEADER.encode(), said if isinstance(said, bytes) else said.encode())]
    if content_type is not None:
        headers.append((b"content-type", content_type.encode()))
    return client.post(INFER, content=header + raw, headers=headers)


def unpack(answer: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Splits a binary answer into its JSON and its tensors."""
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER])
    about, place, arrays = json.loads(answer.content[:length]), length, {}
    for output in about["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            arrays[output["name"]] = np.reshape(output["data"], output["shape"])
            continue
        assert "data" not in output
        kind = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        arrays[output["name"]] = np.frombuffer(answer.content[place : place + size], kind).reshape(output["shape"])
        place += size
    assert place == len(answer.content)
    return about, arrays


@pytest.mark.parametrize(("datatype", "kind"), [("FP32", "<f4"), ("FP64", "<f8")])
@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/json"])
def test_binary_records_get_the_answer_of_json_records(
    client: TestClient, x: np.ndarray, datatype: str, kind: str, content_type: str | None
) -> None:
    by_json = client.post(
        INFER, json={"inputs": [{"name": "records", "shape": [5, 30], "datatype": "FP32", "data": x.ravel().tolist()}]}
    ).json()
    raw = x.astype(kind).tobytes()
    asked = {"id": "call 7", **tensor(raw, datatype=datatype, shape=[5, 30])}
    answer = send(client, asked, raw, content_type=content_type)
    assert answer.status_code == 200, answer.text
    assert answer.json() == by_json | {"id": "call 7"}
    assert HEADER not in answer.headers


def test_answers_are_binary_where_the_request_says_so(client: TestClient, x: np.ndarray) -> None:
    raw = x.tobytes()
    asked = tensor(raw, shape=[5, 30])
    plain = {one["name"]: one for one in send(client, asked, raw).json()["outputs"]}
    expected = {name: np.reshape(one["data"], one["shape"]) for name, one in plain.items()}
    about, arrays = unpack(send(client, asked | {"parameters": ALL_BINARY}, raw))
    assert about["model_name"] == "standard" and set(arrays) == {"probabilities", "class_index"}
    np.testing.assert_allclose(arrays["probabilities"], expected["probabilities"], atol=1e-7)
    assert arrays["class_index"].tolist() == expected["class_index"].tolist()
    wanted = [{"name": "class_index", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    about, arrays = unpack(send(client, asked | {"outputs": wanted}, raw))
    assert [("data" in one) for one in about["outputs"]] == [False, True]
    assert arrays["class_index"].tolist() == expected["class_index"].tolist()
    # An output's own word goes before that of the whole request.
    wanted = [{"name": "class_index", "parameters": {"binary_data": False}}]
    answer = send(client, asked | {"outputs": wanted, "parameters": ALL_BINARY}, raw)
    assert [one["name"] for one in answer.json()["outputs"]] == ["class_index"]


def test_json_records_may_get_a_binary_answer(client: TestClient, x: np.ndarray) -> None:
    about = {"name": "records", "shape": [5, 30], "datatype": "FP32", "data": x.tolist()}
    _, arrays = unpack(client.post(INFER, json={"inputs": [about], "parameters": ALL_BINARY}))
    assert arrays["probabilities"].shape == (5, 2)


RAW = np.zeros(30, "<f4").tobytes()
JSON = json.dumps(tensor(RAW)).encode()
SIZE = {"parameters": {"binary_data_size": 120}}
MALFORMED: dict[str, tuple[Any, bytes, Any]] = {
    "the length is shorter than the JSON": (JSON, RAW, len(JSON) - 1),
    "the length reaches into the tensor": (JSON, RAW, len(JSON) + 10),
    "the length is longer than the body": (JSON, RAW, len(JSON) + 121),
    "10 bytes of 9": (b'{"a": 12}', b"", 10),
    "negative": (JSON, RAW, -1),
    "zero": (JSON, RAW, 0),
    "2^63": (JSON, RAW, 2**63),
    "5000 digits": (JSON, RAW, "9" * 5000),
    "no number": (JSON, RAW, "0x10"),
    "a sign": (JSON, RAW, f"+{len(JSON)}"),
    "other digits": (JSON, RAW, "１２".encode()),
    "size smaller than shape": (tensor(RAW, parameters={"binary_data_size": 116}), RAW[:116], None),
    "size larger than shape": (tensor(RAW, parameters={"binary_data_size": 124}), RAW + b"\0" * 4, None),
    "size of FP64": (tensor(RAW, datatype="FP64"), RAW, None),
    "size of no whole number of values": (tensor(RAW, parameters={"binary_data_size": 119}), RAW[:119], None),
    "size negative": (tensor(RAW, parameters={"binary_data_size": -120}), RAW, None),
    "size 2^63": (tensor(RAW, parameters={"binary_data_size": 2**63}), RAW, None),
    "bytes after the tensor": (tensor(RAW), RAW + b"\0", None),
    "bytes missing": (tensor(RAW), RAW[:-1], None),
    "no bytes": (tensor(RAW), b"", None),
    "a size for a tensor of JSON": (tensor(RAW, data=[0.0] * 30), RAW, None),
    "bytes without a size": (tensor(RAW, parameters={}), RAW, None),
    "bytes beside a tensor of JSON": (tensor(RAW, data=[0.0] * 30, parameters={}), RAW, None),
    "NaN": (tensor(RAW), np.full(30, np.nan, "<f4").tobytes(), None),
    "one NaN": (tensor(RAW), RAW[:-4] + struct.pack("<f", np.nan), None),
    "infinite": (tensor(RAW), np.full(30, -np.inf, "<f4").tobytes(), None),
    "big-endian ones": (tensor(RAW), np.ones(30, ">f4").tobytes(), None),
    "big-endian ones of FP64": (
        tensor(b"0" * 240, datatype="FP64"), np.ones(30, ">f8").tobytes(), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_body_is_refused_at_once(client: TestClient, case: str) -> None:
    asked, raw, length = MALFORMED[case]
    answer = send(client, asked, raw, length)
    assert answer.status_code == 400, answer.text
    assert {"error"} <= set(answer.json()) <= {"error", "reason"} and len(answer.content) < 1024


def test_a_size_needs_the_header(client: TestClient) -> None:
    answer = client.post(INFER, json=tensor(RAW))
    assert (answer.status_code, HEADER in answer.json()["error"]) == (400, True)
    answer = client.post(INFER, content=JSON + RAW)
    assert answer.status_code == 400
    twice = [(HEADER, str(len(JSON))), (HEADER, str(len(JSON) + 120))]
    assert client.post(INFER, content=JSON + RAW, headers=twice).status_code == 400


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shape": [1, 29]}, "shape must be [records, 30]"),
        ({"shape": [30]}, "shape must be [records, 30]"),
        ({"shape": [9223372036854775807, 30]}, "1 to 256 records"),
        ({"shape": [4294967296, 4294967296]}, "shape must be [records, 30]"),
        ({"shape": [-1, 30]}, "greater than or equal to 1"),
        ({"shape": [True, 30]}, "valid integer"),
        ({"shape": [1.0, 30]}, "valid integer"),
        ({"datatype": "BYTES"}, "FP32 or FP64"),
        ({"datatype": "FP16"}, "'FP32', 'FP64' or 'BYTES'"),
        ({"parameters": {"binary_data_size": 120, "shared_memory_region": "x"}}, "none but binary_data_size"),
        ({"parameters": {"binary_data_size": "120"}}, "valid integer"),
        ({"parameters": {"binary_data_size": True}}, "valid integer"),
    ],
)
def test_a_tensor_of_another_form_is_refused(client: TestClient, changed: dict[str, Any], said: str) -> None:
    answer = send(client, tensor(RAW, **changed), RAW)
    assert (answer.status_code, said in answer.json()["error"]) == (422, True), answer.text


def test_values_out_of_bounds_are_named_as_in_json(client: TestClient) -> None:
    raw = np.array([0.0] * 29 + [4321.5], "<f4").tobytes()
    answer = send(client, tensor(raw), raw)
    assert (answer.status_code, "'worst fractal dimension' is not a number" in answer.text) == (422, True)
    raw = np.full(30, 1e300, "<f8").tobytes()
    assert send(client, tensor(raw, datatype="FP64"), raw).status_code == 422
    # Of mixed sizes, in the wrong order of bytes.
    raw = np.linspace(0.1, 0.9, 30, dtype=">f4").tobytes()
    assert send(client, tensor(raw), raw).status_code in (400, 422)


@pytest.mark.parametrize(
    ("where", "parameters", "known"),
    [
        ("request", {"timeout": 5}, "binary_data_output"),
        ("request", {"sequence_id": 3}, "binary_data_output"),
        ("request", {"priority": 1, "binary_data_output": True}, "binary_data_output"),
        ("output", {"classification": 2}, "binary_data"),
        ("output", {"shared_memory_region": "Ada Lovelace"}, "binary_data"),
        ("input", {"Ada Lovelace": 1}, "binary_data_size"),
    ],
)
def test_other_parameters_are_refused_and_never_ignored(
    client: TestClient, where: str, parameters: dict[str, Any], known: str
) -> None:
    about: dict[str, Any] = {"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30}
    asked: dict[str, Any] = {"inputs": [about], "outputs": [{"name": "probabilities"}]}
    {"request": asked, "input": about, "output": asked["outputs"][0]}[where]["parameters"] = parameters
    answer = client.post(INFER, json=asked)
    assert (answer.status_code, "Ada" in answer.text) == (422, False)
    assert f"none but {known} is supported" in answer.json()["error"]


@pytest.mark.parametrize("sent", ["\x00", "\u202e", "a\nb", "a" * 129, "\ud800", 7])
def test_an_id_is_echoed_only_if_it_is_printable_and_short(client: TestClient, sent: Any) -> None:
    about = {"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30}
    answer = client.post(INFER, content=json.dumps({"id": sent, "inputs": [about]}))
    assert answer.status_code in (400, 422) and {"error"} <= set(answer.json()) <= {"error", "reason"}
    assert client.post(INFER, json={"id": "é" * 128, "inputs": [about]}).json()["id"] == "é" * 128


def test_an_output_is_given_once(client: TestClient) -> None:
    about = {"name": "records", "shape": [1, 30], "datatype": "FP32", "data": [0.0] * 30}
    asked = {"inputs": [about], "outputs": [{"name": "probabilities"}] * 2}
    assert client.post(INFER, json=asked).status_code == 422


def packed(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def test_texts_come_with_their_lengths() -> None:
    raw = packed(b"gut", "schön".encode(), b"")
    assert texts_from(raw, [3], most=8) == ["gut", "schön", ""]


@pytest.mark.parametrize(
    ("raw", "shape", "status"),
    [
        (struct.pack("<I", 2**32 - 1) + b"gut", [1], 400),
        (struct.pack("<I", 4) + b"gut", [1], 400),
        (struct.pack("<I", 2) + b"gut", [1], 400),
        (b"\0\0\0", [1], 400),
        (packed(b"\xff"), [1], 400),
        (packed(b"\xed\xa0\x80"), [1], 400),
        (packed(b"a", b"b"), [1], 400),
        (packed(b"a"), [2], 400),
        (packed(b"a" * (LONGEST_STRING + 1)), [1], 400),
        (packed(b"a", b"b"), [1, 2], 422),
        (packed(*[b"a"] * 9), [9], 422),
        (b"\0" * (1 << 20), [9223372036854775807], 422),
    ],
)
def test_texts_of_other_lengths_are_refused(raw: bytes, shape: list[int], status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        texts_from(raw, shape, most=8)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("raw", "shape"), [(b"\0" * (1 << 20), [1, 30]), (b"\0" * 120, [2**63 - 1, 30]), (b"\0" * (1 << 20), [256, 30])]
)
def test_nothing_is_made_of_a_tensor_before_its_size_is_checked(raw: bytes, shape: list[int]) -> None:
    too_long = struct.pack("<I", 2**32 - 1) + raw
    tracemalloc.start()
    began = time.process_time()
    try:
        for _ in range(100):
            with pytest.raises(RefusedError):
                array_from(raw, "FP32", shape, (30,), most=256)
            with pytest.raises(RefusedError):
                texts_from(too_long, [1], most=256)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000
    assert time.process_time() - began < 1
