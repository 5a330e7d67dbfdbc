"""Answers over gRPC: those of the model, in the form that was asked for."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.study.finished import Finished
from serve.grpc_ import open_inference_pb2 as pb
from serve.model import ServedModel
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from tests.serve.grpc_.calls import Call, Loop, arrays, infer, raw, served


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
