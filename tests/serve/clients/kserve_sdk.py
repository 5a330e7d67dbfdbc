"""Calls the server by the unchanged client of KServe: ``kserve_sdk.py rest|grpc ADDRESS RECORDS EXPECTED``.

Runs in an environment of its own, without Assay. RECORDS and EXPECTED are files of NumPy: records, and probabilities.
"""

import asyncio
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def check(found: Any, expected: np.ndarray) -> None:
    """Compares an answer with the probabilities of the model."""
    outputs = {one.name: one.as_numpy() for one in found.outputs}
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["class_index"].tolist() == expected.argmax(1).tolist()


def requests(x: np.ndarray) -> list[InferRequest]:
    """The request in every form that the client can send it."""
    made = []
    for datatype, kind in (("FP32", np.float32), ("FP64", np.float64)):
        flat = InferInput("records", list(x.shape), datatype, data=x.ravel().tolist())
        made.append(InferRequest("standard", [flat], request_id="call 7"))
        for binary in (True, False):
            tensor = InferInput("records", list(x.shape), datatype)
            tensor.set_data_from_numpy(x.astype(kind), binary_data=binary)
            made.append(InferRequest("standard", [tensor]))
            parameters = {"binary_data_output": binary}
            made.append(InferRequest("standard", [tensor], parameters=parameters, request_id="call 7"))
            outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ("probabilities", "class_index")]
            made.append(InferRequest("standard", [tensor], request_outputs=outputs))
    return made


async def rest(address: str, x: np.ndarray, expected: np.ndarray) -> None:
    """Makes the calls of both protocols over REST."""
    url = f"http://{address}"
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await v2.is_server_ready(url) and await v2.is_server_live(url) and await v2.is_model_ready(url, "standard")
    for request in requests(x):
        check(await v2.infer(url, request, model_name="standard"), expected)
    try:
        await v2.infer(url, requests(x)[0], model_name="other")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 404 and "this server has 'standard'" in str(error)
    else:
        raise AssertionError("no error")
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    assert await v1.is_model_ready(url, "standard")
    asked = {"instances": x.tolist()}
    predictions = (await v1.infer(url, asked, model_name="standard"))["predictions"]
    found = [list(one["probabilities"].values()) for one in predictions]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    explanations = (await v1.explain(url, "standard", asked))["explanations"]
    assert np.shape([one["attributions"] for one in explanations]) == x.shape


async def rpc(address: str, x: np.ndarray, expected: np.ndarray) -> None:
    """Makes the calls over gRPC."""
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_ready() and await client.is_server_live()
        assert await client.is_model_ready("standard")
        for request in requests(x):
            check(await client.infer(request), expected)
        try:
            await client.is_model_ready("other")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("no error")


if __name__ == "__main__":
    work = {"rest": rest, "grpc": rpc}[sys.argv[1]]
    asyncio.run(work(sys.argv[2], np.load(sys.argv[3]), np.load(sys.argv[4])))
    print("done")
