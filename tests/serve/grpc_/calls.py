"""What tests of gRPC share: an event loop, a server with its calls, requests, and the outputs of answers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.server import GrpcServer, start_grpc
from serve.grpc_.service import SERVICE
from serve.repository.loaded import Loaded

SECRET = "Ada Lovelace"
Call = Callable[..., Any]


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


def infer(**changed: Any) -> Any:
    """A request with one record."""
    tensor: dict[str, Any] = {"name": "records", "datatype": "FP32", "shape": [1, 30]}
    tensor |= {"contents": {"fp32_contents": [0.0] * 30}} | changed.pop("tensor", {})
    return pb.ModelInferRequest(**{"model_name": "standard", "inputs": [tensor], **changed})


def raw(content: bytes, **tensor: Any) -> Any:
    return infer(tensor={"contents": None, **tensor}, raw_input_contents=[content])


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
