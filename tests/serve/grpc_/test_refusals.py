"""What is refused over gRPC, by its status, without a word of the request."""

import struct
from typing import Any

import grpc
import numpy as np
import pytest

from serve.batching import FullError
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.server import MOST_BYTES
from serve.grpc_.wire import check_parts
from serve.model import NoFiniteAnswerError, ServedModel
from serve.refusals import RefusedError
from tests.serve.grpc_.calls import SECRET, Call, infer, raw

ZEROS = b"\0" * 120
INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED: dict[str, tuple[Any, grpc.StatusCode, str]] = {
    "unknown model": (infer(model_name=SECRET), grpc.StatusCode.NOT_FOUND, "this server has 'standard'"),
    "unknown version": (infer(model_version=SECRET), grpc.StatusCode.NOT_FOUND, "loaded: '1', '2'"),
    "no message": (b"\xff\xff\xff", INVALID, "no message"),
    "text not in UTF-8": (b"\x0a\x01\xff", INVALID, "ModelInferRequest"),
    "no input": (pb.ModelInferRequest(model_name="standard"), INVALID, "inputs"),
    "name": (infer(tensor={"name": SECRET}), INVALID, "'records'"),
    "datatype": (infer(tensor={"datatype": "FP16"}), INVALID, "'FP32', 'FP64' or 'BYTES'"),
    "contents of another datatype": (infer(tensor={"datatype": "FP64"}), INVALID, "fp64_contents"),
    "texts": (infer(tensor={"datatype": "BYTES", "contents": {"bytes_contents": [b"a"]}}), INVALID, "FP32 or FP64"),
    "many texts": (
        infer(tensor={"datatype": "BYTES", "contents": {"bytes_contents": [b""] * 9999}}), INVALID, "more than 256"),
    "no contents": (infer(tensor={"contents": None}), INVALID, "fp32_contents"),
    "shape": (infer(tensor={"shape": [1, 29]}), INVALID, "[records, 30]"),
    "shape negative": (infer(tensor={"shape": [-1, 30]}), INVALID, "greater than or equal to 1"),
    "shape 2^63": (infer(tensor={"shape": [2**63 - 1, 30]}), INVALID, "1 to 256 records"),
    "shape long": (infer(tensor={"shape": [1] * 100_000}), INVALID, "too long"),
    "shape of nine": (infer(tensor={"shape": [1] * 9}), INVALID, "at most 8"),
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
    "many outputs": (infer(outputs=[{}] * 10_000), INVALID, "more than 64"),
    "nine outputs": (infer(outputs=[{}] * 9), INVALID, "at most 8"),
    "truth values": (infer(tensor={"contents": {"bool_contents": [True] * 9}}), INVALID, "fp32_contents"),
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


SMALL = {
    "inputs": b"\x2a\x00" * 500_000,
    "outputs": b"\x32\x00" * 500_000,
    "raw contents": b"\x3a\x00" * 500_000,
    "unknown fields": b"\xfa\x07\x00" * 300_000,
    "fields of an input": b"\x2a\x80\x80\x20" + b"\x22\x00" * 262_144,
    "fields of an output": b"\x32\x80\x80\x20" + b"\x12\x00" * 262_144,
    "texts": b"\x2a\x84\x80\x20\x2a\x80\x80\x20" + b"\x42\x00" * 262_144,
    "shape": b"\x2a\x84\x80\x20\x1a\x80\x80\x20" + b"\x01" * 524_288,
}
"""Short messages of many small parts."""


@pytest.mark.parametrize("case", SMALL)
def test_many_small_parts_are_refused_before_they_are_parsed(case: str) -> None:
    pb.ModelInferRequest.FromString(SMALL[case])
    with pytest.raises(RefusedError) as refused:
        check_parts(SMALL[case])
    assert refused.value.status == 400


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
