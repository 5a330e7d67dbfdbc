"""Follows a submitted job: its log as it grows, its progress as one line that is rewritten, and how it ends."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from jobs.console import duration
from jobs.progress_lines import Progress, read_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# Seconds without an answer from the cluster after which following the log ends.
CONNECT_SECONDS = 60.0
# Seconds of silence after which the cluster is asked how the job is: a lost connection may be as silent as a job.
QUIET_SECONDS = 15.0
# Between two lines of progress where there is no terminal.
LINE_SECONDS = 30.0
# Characters by which the place is found again where the log is read once more.
OVERLAP = 200

# HTTP's code for what is not there.
_NOT_FOUND = 404

T = TypeVar("T")


class LostContactError(Exception):
    """The cluster does not answer; the job may still run."""


class ForgottenError(Exception):
    """The cluster answers, and does not know the job: its head was started again, and kept no list of its jobs."""


class Display:
    """Prints a job's log, and its progress: on a terminal as one line at the bottom, elsewhere as a line now and then.

    Use it as a context manager: the line is gone when it ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._part, self._last, self._printed = "", "", -LINE_SECONDS
        columns = (
            TextColumn("{task.fields[doing]}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TimeElapsedColumn(),
        )
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None, doing="waiting for the job", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._bar.stop()

    def add(self, text: str) -> None:
        """Takes a piece of the log, and shows the lines that it completes.

        Args:
            text: the piece; it may end within a line.
        """
        *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            progress = read_line(line)
            if progress is None:
                self._print(line)
            else:
                self._show(progress)

    def flush(self) -> None:
        """Prints a last line that has no end."""
        if self._part:
            self._print(self._part)
        self._part = ""

    def waiting(self, said: str) -> None:
        """Shows why a job has not begun.

        Args:
            said: the cluster's message.
        """
        self._bar.update(self._task, doing=f"waiting: {said}")
        if not self._console.is_terminal and said != self._last:
            self._last = said
            self._print(f"waiting: {said}")

    def _show(self, progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f"about {duration(progress.seconds_left)} left"
        # A text that does not fit beside the bar would become a second line.
        doing = Text(progress.doing)
        doing.truncate(max(20, self._console.width - 60), overflow="ellipsis")
        self._bar.update(
            self._task, completed=progress.done, total=progress.total or None, doing=doing.plain, left=left
        )
        ended = progress.total > 0 and progress.done >= progress.total
        if not self._console.is_terminal and (ended or time.monotonic() - self._printed >= LINE_SECONDS):
            self._printed = time.monotonic()
            counted = f"{progress.done} of {progress.total}" if progress.total else "running"
            self._print(" · ".join(part for part in (counted, progress.doing, left) if part))

    def _print(self, line: str) -> None:
        # A log is shown as it is: neither as markup, nor folded.
        self._console.print(Text(line), soft_wrap=True)


async def follow_job(client: "JobSubmissionClient", submission: str, display: Display) -> "JobDetails":
    """Shows the log as it grows, until the job has ended.

    The job server sends a log from its beginning, so after a lost connection the part that was shown before is skipped.

    Args:
        client: of the job server.
        submission: ID.
        display: for the log.

    Returns:
        The job after its end, as the cluster states it.

    Raises:
        LostContactError: the cluster has not answered for a minute.
        ForgottenError: the cluster answers that there is no such job.
    """
    from aiohttp import ClientError

    shown, end, answered = 0, "", time.monotonic()
    while True:
        received = 0
        try:
            async for text in tail(client, submission, display):
                answered = time.monotonic()
                fresh = text[max(0, shown - received) :]
                display.add(fresh)
                end = (end + fresh)[-OVERLAP:]
                received += len(text)
                shown = max(shown, received)
            job = await answer(client.get_job_info, submission)
            # That the log has ended does not say that the job has: only its state does.
            if job.status.is_terminal():
                await show_rest(client, submission, display, shown, end)
                return job
            answered = time.monotonic()
        except (OSError, RuntimeError, ClientError) as error:
            if says_unknown(error) and await is_forgotten(client, submission):
                raise ForgottenError from None
            if time.monotonic() - answered > CONNECT_SECONDS:
                raise LostContactError(str(error) or type(error).__name__) from None
        await asyncio.sleep(1)


def says_unknown(error: Exception) -> bool:
    """Returns whether an error is the cluster's answer that it has no such job, and not a lost connection.

    Args:
        error: that the library raised, as ``RuntimeError`` or as that of a refused WebSocket.

    Returns:
        True if it is.
    """
    return getattr(error, "status", None) == _NOT_FOUND or "does not exist" in str(error)


async def is_forgotten(client: "JobSubmissionClient", submission: str) -> bool:
    """Asks the cluster whether it knows a job.

    Args:
        client: of the job server.
        submission: ID.

    Returns:
        True if it answers that it does not; False if it knows the job, or does not answer.
    """
    try:
        await answer(client.get_job_info, submission)
    except (OSError, RuntimeError) as error:
        return says_unknown(error)
    return False


async def tail(client: "JobSubmissionClient", submission: str, display: Display) -> AsyncIterator[str]:
    """Yields pieces of the log until the server ends it; asks how the job is whenever the log is silent.

    Args:
        client: of the job server.
        submission: ID.
        display: for what the cluster says of a job that has not begun.

    Yields:
        The pieces; an empty one for each answer of the cluster in a silence.

    Raises:
        OSError, RuntimeError, ClientError: the connection is lost.
    """
    pieces: Any = client.tail_job_logs(submission)
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=QUIET_SECONDS)
            if done:
                piece = coming.result()
                if piece is None:
                    return
                yield piece
                coming = asyncio.ensure_future(anext(pieces, None))
                continue
            job = await answer(client.get_job_info, submission)
            if job.status.is_terminal():
                return
            if job.status == "PENDING":
                display.waiting(job.message or "the job has not begun")
            yield ""
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pieces.aclose()


async def show_rest(client: "JobSubmissionClient", submission: str, display: Display, shown: int, end: str) -> None:
    """Shows what the log has beyond what was sent: a connection may end before the log does.

    Args:
        client: of the job server.
        submission: ID.
        display: for the log.
        shown: number of characters that were shown.
        end: the last of them.
    """
    # How the job ended is known by now, and does not depend on these lines.
    with contextlib.suppress(OSError, RuntimeError):
        whole = await answer(client.get_job_logs, submission)
        if whole[:shown].endswith(end):
            display.add(whole[shown:])


async def answer(ask: Callable[[str], T], submission: str) -> T:
    """Returns the cluster's answer about a job; the library itself would wait for it without an end.

    Args:
        ask: a method of the library's client.
        submission: ID.

    Returns:
        The answer.

    Raises:
        OSError: there is none within the time for it.
        RuntimeError: the cluster does not know the job.
    """
    loop = asyncio.get_running_loop()
    coming: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not coming.done():
            coming.set_exception(error) if error else coming.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = ask(submission)
        except Exception as error:  # handed on to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    # A daemon: one that never gets an answer must not keep this process.
    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wait_for(coming, CONNECT_SECONDS)


def verdict(job: "JobDetails") -> tuple[int, str]:
    """Returns the exit code and the final message for a job that has ended.

    Args:
        job: the job.

    Returns:
        Exit code and message.
    """
    code = job.driver_exit_code
    if job.status == "SUCCEEDED" and not code:
        return 0, "succeeded"
    if job.status in ("FAILED", "SUCCEEDED") and code:
        # A process that was ended by a signal has a negative code; a shell returns 128 plus the signal.
        return (code, f"failed with exit code {code}") if code > 0 else (128 - code, f"was ended by signal {-code}")
    return 1, f"{job.status.value.lower()}: {job.message or 'the cluster does not say why'}"


def asked_to_stop(console: Console) -> bool:
    """Asks on a terminal whether an interrupt is meant for the job too; elsewhere the answer is no.

    Args:
        console: of the question.

    Returns:
        The answer; no if it is not given.
    """
    if not (console.is_terminal and sys.stdin.isatty()):
        return False
    try:
        return console.input("\nstop the job too? Without it, the job goes on. [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False


def stop(client: "JobSubmissionClient", submission: str) -> bool:
    """Stops a job, and waits until it has ended.

    Args:
        client: of the job server.
        submission: ID.

    Returns:
        Whether it has ended within a minute.

    Raises:
        OSError, RuntimeError: the cluster does not answer.
    """
    client.stop_job(submission)
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline:
        if client.get_job_info(submission).status.is_terminal():
            return True
        time.sleep(0.5)
    return False
