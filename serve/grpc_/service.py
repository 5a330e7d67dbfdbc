"""The calls of the Open Inference Protocol over gRPC, answered by the functions of the REST calls."""

import asyncio
import inspect
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serve.answers.failures import Failure, failure
from serve.answers.tensors import check_models, index_of, metadata_of, outputs_of, records_of_raw, server_metadata
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.authorising import Authorise
from serve.grpc_.tensors import raw_input, request_of, response_of
from serve.limits.refusals import text_of
from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded

logger = logging.getLogger(__name__)

_LONGEST_MESSAGE = 1024
SERVICE = "inference.GRPCInferenceService"
STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The status of gRPC for each HTTP status."""
Observe = Callable[[str, str, int, float], None]
"""``observe(call, model, status, seconds)`` is told of each call: its name, the loaded model or an empty text, and the
HTTP status that stands for the answer."""


class Service:
    """The calls, each a coroutine that is given a request and returns a response.

    Args:
        loaded: the models.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    async def server_live(self, given: Any) -> Any:
        """Returns that the server is there."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, given: Any) -> Any:
        """Returns whether all models answer a known record as when they were loaded."""
        try:
            await asyncio.to_thread(check_models, self._loaded)
        except NoFiniteAnswerError:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, given: Any) -> Any:
        """Returns that a model is loaded."""
        self._loaded.find(given.name, given.version or None)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(self, given: Any) -> Any:
        """Returns name, version and extensions of the server."""
        return pb.ServerMetadataResponse(**server_metadata().model_dump())

    async def model_metadata(self, given: Any) -> Any:
        """Returns inputs and outputs of a model."""
        online = self._loaded.find(given.name, given.version or None)
        about = metadata_of(online, self._loaded.versions(given.name))
        kept = {"name", "versions", "platform", "inputs", "outputs"}
        return pb.ModelMetadataResponse(**about.model_dump(include=kept))

    async def model_infer(self, given: Any) -> Any:
        """Returns probabilities and classes of a tensor of records."""
        online = self._loaded.find(given.model_name, given.model_version or None)
        asked = request_of(given)
        tensor = asked.inputs[0]
        records = records_of_raw(online.model, tensor.datatype, tensor.shape, raw_input(given, tensor))
        return response_of(online, asked, records, await outputs_of(online, records))

    async def repository_index(self, given: Any) -> Any:
        """Lists the versions of all models."""
        entries = index_of(self._loaded, ready=given.ready)
        return pb.RepositoryIndexResponse(models=[entry.model_dump() for entry in entries])


def handlers(loaded: Loaded, authorise: Authorise, observe: Observe | None, longest: float) -> grpc.GenericRpcHandler:
    """Returns the calls as a server of gRPC takes them.

    Args:
        loaded: the models.
        authorise: asked before each call.
        observe: told of each call.
        longest: seconds after which a call ends with DEADLINE_EXCEEDED, if its own deadline is later.

    Returns:
        The handlers.
    """
    rules, methods = _Rules(loaded, authorise, observe, longest), {}
    service = Service(loaded)
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        # The request is parsed once the caller is known to be allowed.
        methods[method.name] = grpc.unary_unary_rpc_method_handler(
            _Call(_snake(method.name), service, getattr(pb, method.input_type.name), rules).answer,
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@dataclass(frozen=True)
class _Rules:
    """What holds for all calls."""

    loaded: Loaded
    authorise: Authorise
    observe: Observe | None
    longest: float


class _Call:
    """One call of the service with its caller's rights, its deadline and its errors."""

    def __init__(self, name: str, service: Service, kind: Any, rules: _Rules) -> None:
        self._name, self._answer = name, getattr(service, name)
        self._kind, self._rules = kind, rules

    async def answer(self, body: bytes, context: grpc.aio.ServicerContext) -> Any:
        began, model = time.perf_counter(), ""
        failed, answer = await self._refused(context), None
        if failed is None:
            try:
                given = self._kind.FromString(body)
                asked = getattr(given, "model_name", "") or getattr(given, "name", "")
                model = asked if asked in self._rules.loaded.names else ""
                async with asyncio.timeout(self._rules.longest):
                    answer = await self._answer(given)
            except DecodeError:
                failed = Failure(400, f"the request is no message of the kind {self._kind.DESCRIPTOR.name}")
            except TimeoutError:
                failed = Failure(504, text_of(504))
            except Exception as error:
                failed = self._logged(error)
        if self._rules.observe is not None:
            status = 200 if failed is None else failed.status
            self._rules.observe(self._name, model, status, time.perf_counter() - began)
        if failed is not None:
            await context.abort(
                STATUSES.get(failed.status, grpc.StatusCode.INTERNAL), failed.message[:_LONGEST_MESSAGE]
            )
        return answer

    async def _refused(self, context: grpc.aio.ServicerContext) -> Failure | None:
        try:
            refused = self._rules.authorise(context.invocation_metadata() or (), context.peer())
            if inspect.isawaitable(refused):
                refused = await refused
        except Exception as error:
            return self._logged(error)
        return None if refused is None else Failure(refused.status, refused.message)

    def _logged(self, error: Exception) -> Failure:
        failed = failure(error)
        if failed.status == 500:
            logger.error("the call %s over gRPC failed", self._name, exc_info=error)
        return failed


def _snake(name: str) -> str:
    """Returns a name as Python spells those of functions."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
