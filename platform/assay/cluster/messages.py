"""Messages from workers to the driver while it waits for them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def beside_driver() -> dict[str, Any]:
    """Returns options of an actor that all workers need: on the driver's node, which is lost with the job alone."""
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}


@contextmanager
def watched(told: Callable[..., None]) -> Iterator[Queue]:
    """Creates a queue for messages from workers, which a thread passes to a function while the block runs.

    All messages of the block are passed on before it ends. An exception of ``told`` is raised at the end.

    Args:
        told: called with the elements of each tuple in the queue.

    Returns:
        Context manager; its value is the queue.

    Raises:
        BaseException: that ``told`` raised.
    """
    queue = Queue(actor_options=beside_driver())
    raised: list[BaseException] = []

    def read() -> None:
        while (message := queue.get()) is not None:
            try:
                told(*message)
            except BaseException as error:
                raised.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield queue
    finally:
        queue.put(None)
        reader.join(timeout=60)
        queue.shutdown()
    if raised:
        raise raised[0]
