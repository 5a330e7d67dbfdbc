"""Calls the server by the unchanged clients of tritonclient: ``triton.py http|grpc ADDRESS RECORDS EXPECTED``.

Runs in an environment of its own, without Assay. RECORDS and EXPECTED are files of NumPy: records, and probabilities.
"""

import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


def check(found: Any, expected: np.ndarray) -> None:
    """Compares an answer with the probabilities of the model."""
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-6)
    assert found.as_numpy("class_index").tolist() == expected.argmax(1).tolist()


def refused(work: Any, said: str, *statuses: str) -> None:
    """Expects an error of the client, in its form."""
    try:
        work()
    except InferenceServerException as error:
        assert str(error.status()) in statuses, error.status()
        assert said in error.message(), error.message()
    else:
        raise AssertionError("no error")


def work(kind: Any, address: str, x: np.ndarray, expected: np.ndarray) -> None:
    """Makes every call that both clients have."""
    http = kind is tritonclient.http
    client = kind.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("standard")
    about = client.get_server_metadata() if http else client.get_server_metadata(as_json=True)
    assert about["name"] == "assay" and "binary_tensor_data" in about["extensions"]
    model = client.get_model_metadata("standard") if http else client.get_model_metadata("standard", as_json=True)
    assert model["versions"] == ["1", "2"]
    assert model["inputs"][0]["name"] == "records" and [int(one) for one in model["inputs"][0]["shape"]] == [-1, 30]
    index = client.get_model_repository_index() if http else client.get_model_repository_index(as_json=True)["models"]
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("standard", version, "READY") for version in model["versions"]
    ]
    for datatype, array in (("FP32", x), ("FP64", x.astype(np.float64))):
        for binary in (True, False) if http else (True,):
            tensor = kind.InferInput("records", list(x.shape), datatype)
            tensor.set_data_from_numpy(array, **({"binary_data": binary} if http else {}))
            names = ("probabilities", "class_index")
            wanted = [kind.InferRequestedOutput(name, **({"binary_data": binary} if http else {})) for name in names]
            for version in ("", *model["versions"]):
                assert client.is_model_ready("standard", version)
                for outputs in (None, wanted):
                    found = client.infer(
                        "standard", [tensor], model_version=version, outputs=outputs, request_id="call 7"
                    )
                    check(found, expected)
                    answer = found.get_response()
                    said = answer if http else {"id": answer.id, "model_version": answer.model_version}
                    assert (said["id"], said["model_version"]) == ("call 7", version or "1")
    refuse(kind, client, tensor, x)
    waits(kind, client, tensor, expected)
    client.close()


def refuse(kind: Any, client: Any, tensor: Any, x: np.ndarray) -> None:
    """Makes calls that are refused."""
    bad, missing = ("422", "StatusCode.INVALID_ARGUMENT"), ("404", "StatusCode.NOT_FOUND")
    refused(lambda: client.infer("other", [tensor]), "this server has 'standard'", *missing)
    refused(lambda: client.infer("standard", [tensor], model_version="9"), "no such version", *missing)
    refused(lambda: client.infer("standard", [tensor], sequence_id=3), "none but binary_data_output", *bad)
    refused(lambda: client.infer("standard", [tensor], priority=1), "none but binary_data_output", *bad)
    classes = [kind.InferRequestedOutput("probabilities", class_count=2)]
    refused(lambda: client.infer("standard", [tensor], outputs=classes), "none but binary_data", *bad)
    wrong = kind.InferInput("records", [len(x), 29], "FP32")
    wrong.set_data_from_numpy(np.ascontiguousarray(x[:, :29]))
    refused(lambda: client.infer("standard", [wrong]), "shape must be [records, 30]", *bad)
    half = kind.InferInput("records", list(x.shape), "FP16")
    half.set_data_from_numpy(x.astype(np.float16))
    refused(lambda: client.infer("standard", [half]), "'FP32', 'FP64' or 'BYTES'", *bad)
    kinds = ("403", "StatusCode.UNIMPLEMENTED")
    refused(lambda: client.load_model("standard"), "", *kinds)
    refused(lambda: client.unload_model("standard"), "", *kinds)


def waits(kind: Any, client: Any, tensor: Any, expected: np.ndarray) -> None:
    """Makes calls that do not wait for their answers."""
    if kind is tritonclient.http:
        check(client.async_infer("standard", [tensor]).get_result(timeout=30), expected)
        return
    found: queue.Queue[Any] = queue.Queue()
    client.async_infer("standard", [tensor], lambda result, error: found.put(error or result))
    check(found.get(timeout=30), expected)


if __name__ == "__main__":
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[sys.argv[1]]
    work(module, sys.argv[2], np.load(sys.argv[3]), np.load(sys.argv[4]))
    print("done")
