"""Service that runs Flower's ClientApps at a worker, for whichever clients the grid sends it messages of."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from assay.seeds import derive, global_generators

RUN_ID = 0
"""Flower's number of the run: a grid serves one."""
SERVER = 0
"""Flower's ID of the server's node; clients count from 1."""


@dataclass(frozen=True, kw_only=True)
class SharedArrays:
    """Request to keep the array records that several messages carry, in place of those before; they are ``shared``."""


@dataclass(frozen=True, kw_only=True)
class ClientMessage:
    """Request to answer one message of a client."""

    metadata: Metadata
    content: Mapping[str, Any]
    """Records by name, in order; the position of a shared record stands for it."""
    state: RecordDict
    """Of the client's context, as its last answer left it."""
    number: int
    """Of the message among all of this client, from 0; its random numbers depend on it."""


@dataclass(frozen=True, kw_only=True)
class ClientReply:
    """Answer to one message."""

    content: RecordDict | Error
    state: RecordDict
    seconds: float


class ClientAppService:
    """Runs a ClientApp for one client after the other; knows nothing of a client between two messages.

    Args:
        load: returns the app; called at the first message, so that an app that cannot be loaded is an answer.
        clients: number of partitions.
        run_config: settings of the run.
        seed: of the run.
        threads: of torch; the same everywhere, so that results do not depend on the machine.
    """

    def __init__(
        self,
        load: Callable[[], ClientApp],
        *,
        clients: int,
        run_config: Mapping[str, Any],
        seed: int,
        threads: int,
    ) -> None:
        self._load, self._clients, self._run_config = load, clients, dict(run_config)
        self._seed, self._threads = seed, threads
        self._app: ClientApp | None = None
        self._shared: list[ArrayRecord] = []

    def __call__(self, request: SharedArrays | ClientMessage, shared: Any) -> ClientReply | None:
        """Keeps shared arrays, or answers a message; what a ClientApp raises is an answer."""
        if isinstance(request, SharedArrays):
            self._shared = list(shared)
            return None
        return self._answer(request)

    def _answer(self, request: ClientMessage) -> ClientReply:
        began = time.perf_counter()
        torch.set_num_threads(self._threads)
        node = request.metadata.dst_node_id
        state = _copied(request.state)
        try:
            app = self._loaded()
        except Exception as error:
            content: RecordDict | Error = Error(ErrorCode.LOAD_CLIENT_APP_EXCEPTION, _reason(error))
            return ClientReply(content=content, state=request.state, seconds=0.0)
        context = Context(
            run_id=RUN_ID,
            node_id=node,
            node_config={PARTITION_ID_KEY: node - 1, NUM_PARTITIONS_KEY: self._clients},
            state=state,
            run_config=dict(self._run_config),
        )
        message = Message(content=self._content(request), metadata=request.metadata)
        try:
            with _identity(node), global_generators(derive(self._seed, "client", node, request.number)):
                reply = app(message, context)
            content = _content_of(reply)
        except (Exception, SystemExit) as error:
            # As in Flower, what a failed handler did to its state is undone.
            content, context.state = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _reason(error)), request.state
        return ClientReply(content=content, state=context.state, seconds=time.perf_counter() - began)

    def _loaded(self) -> ClientApp:
        if self._app is None:
            self._app = self._load()
        return self._app

    def _content(self, request: ClientMessage) -> RecordDict:
        """Returns the content with records of its own, which a handler may change."""
        content = RecordDict()
        for name, record in request.content.items():
            content[name] = _copied_record(self._shared[record] if isinstance(record, int) else record)
        return content


def _content_of(reply: Any) -> RecordDict | Error:
    if not isinstance(reply, Message):
        raise TypeError(f"the ClientApp returned {type(reply).__name__}, not a Message")
    return reply.error if reply.has_error() else reply.content


@contextmanager
def _identity(node: int) -> Iterator[None]:
    """Makes new messages those of a client for the duration of a block; the server may run in the same process."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, RUN_ID, node
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


def _copied(records: RecordDict) -> RecordDict:
    return RecordDict({name: _copied_record(record) for name, record in records.items()})


def _copied_record(record: Any) -> Any:
    """Returns another record with the same values; the bytes of arrays, which nothing can change, are not copied."""
    if isinstance(record, ArrayRecord):
        return ArrayRecord.from_array_dict(record)
    values = {key: list(value) if isinstance(value, list) else value for key, value in record.items()}
    return type(record)(values)


def _reason(error: BaseException) -> str:
    """Returns the exception with the place in the app where it was raised, as one text."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
