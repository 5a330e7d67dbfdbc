"""Asks a process of its own for what needs the whole library: a trial's figures, and tests of differences.

The server itself loads neither PyTorch nor pandas, which take twice the memory that it may have. The process starts
when it is first needed, and ends when nobody asked for a while.
"""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as TooLateError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from assay.dashboard import drawing
from assay.errors import UserError
from assay.store.columns import Place

PATIENCE = 120.0
"""Seconds after which a figure is given up; data that are first read take longest."""
IDLE = 300.0
"""Seconds without a question after which the process ends."""


class Figures:
    """Questions to a process that has the whole library."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._known: dict[tuple[Any, ...], Any] = {}

    def drawn(self, location: str, place: Place) -> dict[str, Any]:
        """Returns the figures of a trial, as the report draws them.

        Args:
            location: of the results.
            place: folder and id of the trial.

        Returns:
            ``figures``, plotly's own form by name, and ``why`` some are missing.
        """
        try:
            answer: dict[str, Any] = self._ask(drawing.draw, location, place)
        except UserError as error:
            return {"figures": [], "why": str(error)}
        return answer

    def withheld(self, location: str, place: Place) -> list[bool] | None:
        """Returns which rows of a private trial may not be shown; see ``release.candidates.uncovered``.

        Args:
            location: of the results.
            place: folder and id of the trial.

        Returns:
            A bool for each row; None where its results do not say.
        """
        try:
            answer: list[bool] | None = self._ask(drawing.withheld, location, place)
        except UserError:
            return None
        return answer

    def differences(self, location: str, cohort: str, recipes: tuple[str, ...]) -> dict[str, Any]:
        """Returns tests of the differences between recipes of a study; see ``drawing.differences``.

        Args:
            location: of the results.
            cohort: of the recipes.
            recipes: to compare.

        Returns:
            JSON-able values.
        """
        try:
            answer: dict[str, Any] = self._ask(drawing.differences, location, cohort, recipes)
        except UserError as error:
            return {"tests": [], "why": str(error)}
        return answer

    def _ask(self, question: Callable[..., Any], *about: Any) -> Any:
        """Returns an answer of the process; one that was given is kept.

        Raises:
            UserError: the process failed or took too long; says so.
        """
        key = (question.__name__, *about)
        with self._lock:
            if key in self._known and question is not drawing.differences:
                return self._known[key]
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
            self._rest()
            try:
                answer = self._pool.submit(question, *about).result(timeout=PATIENCE)
            except (TooLateError, BrokenProcessPool) as error:
                self._end()
                raise UserError("the figures took too long, or their process ended; look into the report") from error
            except UserError:
                raise
            except Exception as error:  # whatever the report meets in results of earlier versions
                raise UserError(f"this cannot be drawn ({type(error).__name__}: {error})") from error
            if len(self._known) > 64:
                self._known.pop(next(iter(self._known)))
            self._known[key] = answer
            return answer

    def _rest(self) -> None:
        """Sets the time at which the process ends anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(IDLE, self._end_quietly)
        self._timer.daemon = True
        self._timer.start()

    def _end_quietly(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
