"""The calls of the Open Inference Protocol over gRPC, answered by the functions of the REST calls."""

import asyncio
import inspect
import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serve.answers.failures import Failure, failure
from serve.answers.metadata import index_of, metadata_of, server_metadata
from serve.answers.readiness import require_ready
from serve.answers.tensors import outputs_of, records_of_raw
from serve.audit_log.decision import REQUEST_ID, Decision, Hook, Refused
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.authorising import Allowed, Authorise
from serve.grpc_.tensors import raw_input, request_of, response_of
from serve.grpc_.wire import check_parts
from serve.inputs.records import Records
from serve.limits.refusals import text_of
from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded
from serve.repository.online import Online

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


@dataclass(frozen=True)
class Caller:
    """Who makes a call, for the decision log."""

    body: bytes
    """Of the request."""
    token: str = ""
    """Name of the token."""
    request_id: str = ""


class Service:
    """The calls, each a coroutine that is given a request with its caller, and returns a response.

    Args:
        loaded: the models.
        log: takes what is answered, and the status of what is refused.
    """

    def __init__(self, loaded: Loaded, log: Hook | None = None) -> None:
        self._loaded, self._log = loaded, log

    async def server_live(self, given: Any, caller: Caller) -> Any:
        """Returns that the server is there."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, given: Any, caller: Caller) -> Any:
        """Returns whether all models answer a known record as when they were loaded."""
        try:
            await asyncio.to_thread(require_ready, self._loaded)
        except NoFiniteAnswerError:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, given: Any, caller: Caller) -> Any:
        """Returns that a model is loaded."""
        self._loaded.find(given.name, given.version or None)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(self, given: Any, caller: Caller) -> Any:
        """Returns name, version and extensions of the server."""
        return pb.ServerMetadataResponse(**server_metadata().model_dump())

    async def model_metadata(self, given: Any, caller: Caller) -> Any:
        """Returns inputs and outputs of a model."""
        online = self._loaded.find(given.name, given.version or None)
        about = metadata_of(online, self._loaded.versions(given.name))
        kept = {"name", "versions", "platform", "inputs", "outputs"}
        return pb.ModelMetadataResponse(**about.model_dump(include=kept))

    async def model_infer(self, given: Any, caller: Caller) -> Any:
        """Returns probabilities and classes of a tensor of records."""
        online = self._loaded.find(given.model_name, given.model_version or None)
        asked = request_of(given)
        tensor = asked.inputs[0]
        records = records_of_raw(online.model, tensor.datatype, tensor.shape, raw_input(given, tensor))
        outputs = await outputs_of(online, records)
        await self._note(online, records, outputs["class_index"].tolist(), caller)
        return response_of(online, asked, records, outputs)

    async def _note(self, online: Online, records: Records, classes: list[int], caller: Caller) -> None:
        """Hands an answer to the decision log, and waits for its line where the log says so."""
        if self._log is None:
            return
        about = {"model": online.name, "version": online.version, "artefact": online.artefact, **asdict(caller)}
        written = self._log(Decision(call="infer", records=records.x, classes=classes, **about))
        if written is not None:
            await asyncio.wrap_future(written)

    async def repository_index(self, given: Any, caller: Caller) -> Any:
        """Lists the versions of all models."""
        entries = index_of(self._loaded, ready=given.ready)
        return pb.RepositoryIndexResponse(models=[entry.model_dump() for entry in entries])


@dataclass(frozen=True)
class Rules:
    """What holds for all calls."""

    loaded: Loaded
    authorise: Authorise
    """Asked before each call is read."""
    observe: Observe | None = None
    log: Hook | None = None
    """Takes what is answered, and the status of what is refused."""
    longest: float = 60.0
    """Seconds after which a call ends with DEADLINE_EXCEEDED, if its own deadline is later."""


def handlers(rules: Rules) -> grpc.GenericRpcHandler:
    """Returns the calls as a server of gRPC takes them.

    Args:
        rules: of all calls.

    Returns:
        The handlers.
    """
    service, methods = Service(rules.loaded, rules.log), {}
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        # The request is parsed once the caller is known to be allowed.
        methods[method.name] = grpc.unary_unary_rpc_method_handler(
            _Call(_snake(method.name), service, getattr(pb, method.input_type.name), rules).answer,
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class _Call:
    """One call of the service with its caller's rights, its deadline and its errors."""

    def __init__(self, name: str, service: Service, kind: Any, rules: Rules) -> None:
        self._name, self._answer = name, getattr(service, name)
        self._kind, self._rules = kind, rules

    async def answer(self, body: bytes, context: grpc.aio.ServicerContext) -> Any:
        """Answers a call.

        Args:
            body: of the request.
            context: of the call.

        Returns:
            The response.
        """
        began, model, answer = time.perf_counter(), "", None
        try:
            caller = await self._admit(body, context)
            given = self._parsed(body)
            model = self._model(given)
            async with asyncio.timeout(self._rules.longest):
                answer = await self._answer(given, caller)
            failed = None
        except _RefusedCallError as error:
            failed = error.failure
        except TimeoutError:
            failed = Failure(504, text_of(504))
        except Exception as error:
            failed = failure(error)
            if failed.status == 500:
                logger.exception("the call %s over gRPC failed", self._name)
        if self._rules.observe is not None:
            status = 200 if failed is None else failed.status
            self._rules.observe(self._name, model, status, time.perf_counter() - began)
        if failed is not None:
            if self._rules.log is not None:
                self._rules.log(Refused(failed.status))
            code = STATUSES.get(failed.status, grpc.StatusCode.INTERNAL)
            await context.abort(code, failed.message[:_LONGEST_MESSAGE])
        return answer

    async def _admit(self, body: bytes, context: grpc.aio.ServicerContext) -> Caller:
        """Returns who calls; raises if the caller may not."""
        metadata = context.invocation_metadata() or ()
        judged = self._rules.authorise(metadata, context.peer())
        if inspect.isawaitable(judged):
            judged = await judged
        if judged is not None and not isinstance(judged, Allowed):
            raise _RefusedCallError(Failure(judged.status, judged.message))
        ids = [value for name, value in metadata if name == "x-request-id"]
        known = len(ids) == 1 and isinstance(ids[0], str) and REQUEST_ID.fullmatch(ids[0])
        return Caller(body, "" if judged is None else judged.name, ids[0] if known else "")

    def _parsed(self, body: bytes) -> Any:
        if self._name == "model_infer":
            check_parts(body)
        try:
            return self._kind.FromString(body)
        except DecodeError:
            name = self._kind.DESCRIPTOR.name
            raise _RefusedCallError(Failure(400, f"the request is no message of the kind {name}")) from None

    def _model(self, given: Any) -> str:
        """Returns the model of a request, if it is loaded."""
        asked = getattr(given, "model_name", "") or getattr(given, "name", "")
        return asked if asked in self._rules.loaded.names else ""


class _RefusedCallError(Exception):
    """A call is not answered."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _snake(name: str) -> str:
    """Returns a name as Python spells those of functions."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
