"""What workers say while the driver waits for all of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray.util.queue import Queue


@contextmanager
def watched(told: Callable[..., None]) -> Iterator[Queue]:
    """A queue that workers fill with tuples, each handed to ``told`` here, in a thread, while the block runs.

    What was put before the block ends is told before it is left. An exception of ``told`` is raised then.
    """
    queue = Queue()
    raised: list[BaseException] = []

    def read() -> None:
        while (said := queue.get()) is not None:
            try:
                told(*said)
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
