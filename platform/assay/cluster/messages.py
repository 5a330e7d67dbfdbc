"""Messages from workers to the driver while it waits for them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray.util.queue import Queue


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
    queue = Queue()
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
