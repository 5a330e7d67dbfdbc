"""The actor that runs items of a map, and keeps a service alive between requests."""

import os
from collections.abc import Callable
from typing import Any

import ray

from assay import progress
from assay.cluster import board
from assay.cluster.memory import keep_freed_memory
from assay.executors import Service, answer


class Worker:
    """Warm process that runs functions, and keeps a service alive between requests.

    Args:
        place: its number in the pool.
        board_name: name of the actor to which it reports progress, if that actor exists.
        gpu: whether it has reserved a GPU or a share of one; otherwise it sees none.
    """

    def __init__(self, place: int, board_name: str, *, gpu: bool) -> None:
        keep_freed_memory()
        if not gpu:
            # With RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0, Ray leaves all GPUs visible to an actor that reserves none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._place, self._board = place, board_name
        self._service: Service | None = None

    def ready(self) -> str:
        """Returns the id of its node, once the process has started.

        Returns:
            The id, as ``ray.nodes`` has it.
        """
        return str(ray.get_runtime_context().get_node_id())

    @ray.method(num_returns=2)
    def run(self, fn: Callable[..., Any], item: Any, shared: Any) -> tuple[None, Any]:
        """Runs one item of a map, and reports its progress to the board.

        Args:
            fn: the function.
            item: its first argument.
            shared: its second argument.

        Returns:
            None, by which the driver notices the end without receiving the result; and the result.
        """
        with progress.listening(self._tell):
            return None, fn(item, shared)

    def _tell(self, said: str) -> None:
        board.report(self._board, self._place, said)

    def host(self, make: Callable[[], Service] | None) -> None:
        """Creates a service, and drops the earlier one.

        Args:
            make: creates it; None only drops the earlier one.
        """
        self._service = None if make is None else make()

    def call(self, request: Any, shared: Any) -> Any:
        """Sends a request to the service.

        Args:
            request: its first argument.
            shared: its second argument.

        Returns:
            The reply, or the exception that the service raised.
        """
        assert self._service is not None
        return answer(self._service, request, shared)
