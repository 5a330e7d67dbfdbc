"""Following a job: progress is one line, a lost connection loses and doubles nothing, and the end is never guessed."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from processes import Ended
from ray.job_submission import JobStatus
from rich.console import Console

from assay.results import TrialRecord
from jobs import following, submit
from jobs.console import duration
from jobs.following import Display, LostContactError, follow_job, stop
from jobs.progress import ConsoleWatcher
from jobs.progress_lines import MARK, Progress, as_line, lines_wanted, read_line

LOG = "".join(f"line {number}\n" for number in range(6))
RUNNING, DONE = JobStatus.RUNNING, JobStatus.SUCCEEDED


class Server:
    """A job server with a script: what each connection sends or fails with, and what it says of the job each time."""

    def __init__(self, connections: list[Any], states: list[Any], log: str = LOG) -> None:
        self._connections, self._states, self._log = iter(connections), iter(states), log
        self.stopped: list[str] = []

    async def tail_job_logs(self, submission: str) -> Any:
        for piece in next(self._connections):
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.sleep(3600)
            yield piece

    def get_job_info(self, submission: str) -> Any:
        state = next(self._states)
        if isinstance(state, Exception):
            raise state
        if isinstance(state, threading.Event):
            state.wait()
        return SimpleNamespace(submission_id="sub_1", status=state, driver_exit_code=0, message="no node has a GPU")

    def get_job_logs(self, submission: str) -> str:
        return self._log

    def stop_job(self, submission: str) -> None:
        self.stopped.append(submission)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(following.asyncio, "sleep", lambda seconds: sleep(0.01 if seconds < 10 else seconds))
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.05)


def followed(server: Server, *, terminal: bool = False) -> tuple[Any, str]:
    """The job after its end, and what was shown meanwhile."""
    text = io.StringIO()
    with Display(Console(file=text, width=100, force_terminal=terminal)) as display:
        return asyncio.run(follow_job(server, "sub_1", display)), text.getvalue()  # type: ignore[arg-type]


LOST = RuntimeError("WebSocket connection closed unexpectedly")


@pytest.mark.parametrize(
    ("connections", "states"),
    [
        ([[LOG]], [DONE]),
        ([[LOG[:10], LOG[10:17], LOG[17:]]], [DONE]),
        # Lost within a line, and again before anything new; each connection begins at the beginning.
        ([[LOG[:10], LOST], [LOST], [LOG[:4], LOG[4:]]], [DONE]),
        # The connection ends early, and properly, while the job runs: its end says nothing.
        ([[LOG[:10]], [LOG[:20]], [LOG]], [RUNNING, RUNNING, DONE]),
        # The end of the log never comes, though the job has ended.
        ([[LOG[:10]]], [DONE]),
        # The connection falls silent for ever.
        ([[LOG[:10], None]], [DONE, DONE]),
        # The cluster fails to say how the job ended, and then says it.
        ([[LOG], [LOG]], [OSError("head restarts"), DONE]),
    ],
)
def test_each_line_is_shown_once_whatever_becomes_of_the_connection(connections: list[Any], states: list[Any]) -> None:
    ended, shown = followed(Server(connections, states))
    assert ended.status == DONE
    assert shown == LOG


def test_contact_that_is_lost_for_good_is_not_taken_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CONNECT_SECONDS", 0.1)
    with pytest.raises(LostContactError, match="unexpectedly"):
        followed(Server([[LOST]] * 100, []))


def test_a_cluster_that_takes_the_question_and_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "CONNECT_SECONDS", 0.2)
    silence = threading.Event()
    with pytest.raises(LostContactError):
        followed(Server([[LOG]] * 100, [silence] * 100))
    silence.set()


def test_lost_contact_has_an_exit_code_of_its_own(job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    # `ray job submit` may end with 0 here, and a pipeline would go on as if the study had succeeded.
    monkeypatch.setattr(following, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(submit, "connect", lambda address: Server([[LOST]] * 100, []))
    monkeypatch.setattr(submit, "known", lambda *given: None)
    ended = job("submit", "--follow", "sub_1")
    assert ended.code == 75
    assert "no longer answers" in ended.words
    assert "--follow sub_1" in ended.words


UNKNOWN = RuntimeError("Request failed with status code 404: Job sub_1 does not exist.")


class RefusedError(RuntimeError):
    """What aiohttp raises where a WebSocket is refused."""

    status = 404


@pytest.mark.parametrize(
    ("connections", "states"),
    [
        # The log is refused, and the job unknown; and the log had ended, when the head came back.
        ([[LOG[:10], LOST], [RefusedError("Invalid response status")]], [UNKNOWN]),
        ([[LOG[:10]]], [UNKNOWN, UNKNOWN]),
        # The head knows its jobs again a moment later.
        ([[RefusedError("Invalid response status")], [RefusedError("")]], [RUNNING, UNKNOWN]),
    ],
)
def test_a_head_that_has_forgotten_the_job_is_not_lost_contact(
    connections: list[Any], states: list[Any], job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "connect", lambda address: Server(connections, states))
    monkeypatch.setattr(submit, "known", lambda *given: None)
    ended = job("submit", "--follow", "sub_1")
    assert ended.code == 1
    assert "its head was started again, which ended the job" in ended.words
    assert "submit it again with the same --results" in ended.words
    assert "no longer answers" not in ended.words


def test_why_a_job_has_not_begun_is_said_once() -> None:
    waiting = JobStatus.PENDING
    _, shown = followed(Server([[None], [LOG]], [waiting, waiting, waiting, DONE, DONE]))
    assert shown.count("waiting: no node has a GPU") == 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("jobs.following.time.monotonic", clock)
    yield clock
    monkeypatch.undo()


def test_without_a_terminal_progress_is_a_line_now_and_then(clock: Clock) -> None:
    text = io.StringIO()
    display = Display(Console(file=text, width=100))
    for done in range(1, 91):
        clock.now += 1
        display.add(as_line(Progress(done, 90, f"trial {done}", 90.0 - done)) + "\n")
    assert text.getvalue().splitlines() == [
        "1 of 90 · trial 1 · about 1 min 29 s left",
        "31 of 90 · trial 31 · about 59 s left",
        "61 of 90 · trial 61 · about 29 s left",
        "90 of 90 · trial 90 · about 0 s left",
    ]


def test_on_a_terminal_progress_is_one_line_below_the_log() -> None:
    text = io.StringIO()
    with Display(Console(file=text, width=100, force_terminal=True)) as display:
        for done in range(1, 50):
            display.add(as_line(Progress(done, 50, "a very long label " * 20, 5.0)) + "\n")
        display.add("a word of the job\n")
        display._bar.refresh()
        shown = text.getvalue()
    assert "49/50" in shown
    assert "a word of the job" in shown
    # Rewritten in its place: the cursor never goes down for progress, only for the word of the job.
    assert shown.count("\n") == 1
    assert MARK not in shown


def test_text_that_only_looks_like_progress_is_shown_as_it_is() -> None:
    text = io.StringIO()
    odd = [
        f"{MARK}not json",
        MARK + '{"done": 1}',
        MARK + '{"done": -1, "total": 2, "doing": "x"}',
        MARK + '{"done": 1.5, "total": 2, "doing": "x"}',
        MARK + '{"done": true, "total": 2, "doing": "x"}',
        MARK + '{"done": 1, "total": 2, "doing": 3}',
        MARK + '{"done": 1, "total": 2, "doing": "x", "seconds_left": NaN}',
        MARK + '{"done": 1, "total": 2, "doing": "x", "more": 1}',
        MARK + "[1, 2]",
        " " + as_line(Progress(1, 2, "indented")),
        "[bold]:smile: no markup[/bold] " + "x" * 200,
    ]
    with Display(Console(file=text, width=60)) as display:
        for line in odd:
            display.add(line + "\n")
    assert text.getvalue().splitlines() == odd


def test_progress_is_read_as_it_was_written() -> None:
    for progress in (Progress(0, 0, "starting"), Progress(3, 10, "wdbc · pgd, fold 2", 42.5)):
        assert read_line(as_line(progress)) == progress
    assert read_line(as_line(Progress(1, 2, "x", float("nan")))) == Progress(1, 2, "x", None)


def record(error: str = "") -> TrialRecord:
    asked = {"dataset": "made", "model": "mlp", "recipe": "standard", "fold": 0, "repeat": 0}
    return TrialRecord(trial="t1", measurements=(), seconds=1.5, error=error, **asked)


def told(watch: Callable[[ConsoleWatcher], None]) -> list[str]:
    text = io.StringIO()
    watch(ConsoleWatcher(Console(file=text, width=80)))
    return text.getvalue().splitlines()


def test_a_job_states_progress_in_lines_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_PROGRESS", "lines")
    assert lines_wanted()

    def watch(watcher: ConsoleWatcher) -> None:
        watcher.begin(total=3, finished=1, workers=2)
        watcher.status("reading, so that the line is longer than a console is wide: " + "x" * 80)
        watcher.done(record(), "made · standard · fold 1", seconds_left=75.2, workers=2)
        watcher.done(record("ValueError: odd"), "made · standard · fold 2", seconds_left=0, workers=2)
        watcher.end()

    lines = told(watch)
    stated = [progress for line in lines if (progress := read_line(line))]
    # The step came within a second of the beginning: it is left out, finished trials never are.
    assert stated == [
        Progress(1, 3, "starting"),
        Progress(2, 3, "made · standard · fold 1", 75.2),
        Progress(3, 3, "made · standard · fold 2", 0),
    ]
    rest = [line for line in lines if read_line(line) is None]
    assert rest == [
        "3 trials on 2 workers, 1 finished before",
        "[  3/3] failed made · standard · fold 2 · 1.5 s · all done",
        "      ValueError: odd",
    ]


def test_a_long_step_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_PROGRESS", "lines")
    clock = Clock()
    monkeypatch.setattr("jobs.progress.time.monotonic", clock)

    def watch(watcher: ConsoleWatcher) -> None:
        for step in range(40):
            clock.now += 0.1
            watcher.status(f"step {step}")

    said = [progress.doing for line in told(watch) if (progress := read_line(line))]
    monkeypatch.undo()
    assert said == ["step 0", "step 10", "step 20", "step 30"]


def interrupted(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    async def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "follow_job", interrupt)
    monkeypatch.setattr(submit, "connect", lambda address: server)
    monkeypatch.setattr(submit, "known", lambda *given: None)


@pytest.mark.parametrize(
    ("options", "asked", "stopped", "said"),
    [
        ((), False, [], "the job still runs. Follow: python -m jobs.submit"),
        ((), True, ["sub_1"], "sub_1 stopped"),
        (("--stop-on-interrupt",), None, ["sub_1"], "sub_1 stopped"),
        (("--keep-on-interrupt",), None, [], "the job still runs"),
    ],
)
def test_an_interrupt_stops_the_job_only_where_that_is_asked_for(  # noqa: PLR0917
    options: tuple[str, ...], asked: bool | None, stopped: list[str], said: str, job: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server = Server([], [RUNNING, JobStatus.STOPPED])
    interrupted(monkeypatch, server)
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)

    def question(console: Console) -> bool:
        assert asked is not None
        return asked

    monkeypatch.setattr(following, "asked_to_stop", question)
    ended = job("submit", *options, "--follow", "sub_1")
    assert (ended.code, server.stopped) == (130, stopped)
    assert said in ended.words


def test_without_a_terminal_nobody_is_asked() -> None:
    assert not following.asked_to_stop(Console(file=io.StringIO()))


def test_a_stop_that_fails_says_how_to_stop_the_job(job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([], [OSError("no route")])
    interrupted(monkeypatch, server)
    ended = job("submit", "--stop-on-interrupt", "--follow", "sub_1")
    assert ended.code == 130
    assert "ray job stop" in ended.words


def test_a_job_that_does_not_stop_is_not_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(following.time, "sleep", lambda seconds: threading.Event().wait(0.02))
    assert stop(Server([], [RUNNING] * 100), "sub_1") is False  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")])
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
