"""Rates of calls: a bucket of tokens for each caller, which fills steadily."""

import time
from collections import OrderedDict

MOST_CALLERS = 10_000
"""Callers that are remembered; the one that called longest ago is forgotten first."""


class Rates:
    """Limits how often each caller calls.

    Args:
        per_second: calls a second over time.
        burst: calls at once after a pause.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, max(burst, 1.0)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str, *, now: float | None = None) -> float:
        """Counts a call, if the caller may make it.

        Args:
            caller: name or address.
            now: time in seconds; by default the present.

        Returns:
            0 if the call may be made; otherwise the seconds after which one may be.
        """
        now = time.monotonic() if now is None else now
        left, before = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._left[caller] = (left if wait else left - 1, now)
        if len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)
        return wait
