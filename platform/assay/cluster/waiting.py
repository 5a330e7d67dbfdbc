"""Waits for workers that cannot start yet: says what is missing, and ends at a deadline."""

import logging
import time

from assay import progress
from assay.cluster.resources import Reservation, described, living_nodes
from assay.errors import UserError

WAIT = 300.0
"""Seconds that a job waits for its first worker."""
EVERY = 30.0
"""Seconds between two messages."""
_FIRST = 5.0
"""Seconds before the first message: workers of a warm cluster start faster."""

logger = logging.getLogger(__name__)


def tell(said: str) -> None:
    """Passes a message to the listener of this process; without one it is logged, which prints it to standard error.

    Args:
        said: the message.
    """
    if progress.wanted():
        progress.relay(said)
    else:
        logger.warning("%s", said)


class Wait:
    """A wait for the first of some workers.

    Args:
        wanted: what each reserves.
        workers: their number.
        seconds: until the wait ends.
    """

    def __init__(self, wanted: Reservation, workers: int, seconds: float) -> None:
        self._wanted, self._workers, self._seconds = wanted, workers, seconds
        self._began = time.monotonic()
        self._next = self._began + _FIRST

    def look(self) -> None:
        """Prints what is waited for, if it is time to.

        Raises:
            UserError: the deadline has passed.
        """
        now = time.monotonic()
        waited = now - self._began
        if waited > self._seconds:
            raise UserError(
                f"no worker could start within {self._seconds:g} s: each reserves {self._wanted}; {self._cluster()}. "
                "Start machines or ask for their quota, end other jobs, lower `threads` or --gpus-per-trial, or wait "
                "longer with --wait-for-workers",
                setting="--wait-for-workers",
                given=self._seconds,
            )
        if now >= self._next:
            self._next = now + EVERY
            workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
            tell(
                f"waiting for {workers}, each with {self._wanted}; {self._cluster()}; none has started yet, and the "
                f"wait ends in {self._seconds - waited:.0f} s"
            )

    def _cluster(self) -> str:
        """Returns which machines there are, and how many of the workers would fit if nothing else ran."""
        nodes = living_nodes()
        fit = sum(self._wanted.fits(node) for node in nodes)
        return f"the cluster has {described(nodes)}, with room for {fit}"
