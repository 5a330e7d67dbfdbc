"""Submit one of the jobs to a Ray cluster, follow its log, and end with its exit code.

python -m jobs.submit study quickstart --results /shared/results/quickstart
"""

import asyncio
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.console import application, console, user_errors

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

HERE = Path(__file__).parent
ROOT = HERE.parent
# Every module of this folder that can be run is a job, except this one.
JOBS = sorted(
    path.stem
    for path in HERE.glob("[!_]*.py")
    if path != Path(__file__) and '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
# Ray reads the address of its job server from this variable even if it is given as an argument.
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
# Seconds without an answer from the cluster after which following the log ends.
CONNECT_SECONDS = 60.0
INTERRUPTED = 130


def main(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help=f"One of: {', '.join(JOBS)}; or the module of a package that ASSAY_PLUGINS names.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENTS]...", help="Arguments of the job, passed on unchanged. Options of submit itself come before the job.")] = None,
    address: Annotated[str, typer.Option(envvar=ADDRESS_VARIABLE, help="Address of the cluster's dashboard.")] = "http://127.0.0.1:8265",
    ship_assay: Annotated[bool, typer.Option("--ship-assay", help="Also send the package assay, for a cluster that has only its dependencies.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the ID of the submission and do not wait.")] = False,
    follow: Annotated[str | None, typer.Option(metavar="ID", help="Follow a job that was submitted before.")] = None,
) -> None:  # fmt: skip
    """Submit a job to a Ray cluster with this checkout as its working folder, and follow it to its end.

    The exit code is that of the job; 1 if the job was stopped or never began.
    """
    with user_errors():
        from assay.errors import UserError

        if (job is None) == (follow is None):
            raise UserError(f"give either a job ({', '.join(JOBS)}) or --follow and the ID of a submission")
        if follow is not None and detach:
            raise UserError("--follow and --detach exclude each other")
        if job is not None:
            check_arguments(job, arguments or ())
        server = url(address)
        client = connect(server)
        if job is not None:
            submission = submit(client, server, job, arguments or (), ship_assay=ship_assay)
            if detach:
                print(submission)
                return
            _say(f"submitted to {server} as {submission}")
        else:
            submission = str(follow)
            known(client, server, submission)
        try:
            ended = asyncio.run(follow_job(client, server, submission))
        except KeyboardInterrupt:
            _say(f"\nno longer following; the job still runs. {ways(server, submission)}")
            raise typer.Exit(INTERRUPTED) from None
        code, words = verdict(ended)
        _say(f"{submission} {words}")
    raise typer.Exit(code)


def check_arguments(job: str, arguments: Sequence[str]) -> None:
    """Refuses at once arguments that the cluster would refuse later.

    Args:
        job: name of the job.
        arguments: of the job.

    Raises:
        UserError: there is no such job, or its results would be lost with its temporary folder.
    """
    from assay.errors import UserError
    from assay.registry import plugins, unknown_name

    if job not in JOBS and job.partition(".")[0] not in plugins():
        raise unknown_name("job", job, JOBS)
    for place, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        location = value if equals else "".join(arguments[place + 1 : place + 2])
        lasts = "://" in location or Path(location).is_absolute()
        if name in ("--results", "--ledger", "--to") and location and not lasts:
            raise UserError(
                f"{name} {location}: a submitted job runs in a temporary folder of the cluster, and results below "
                "it are lost with it; give an absolute path that the cluster keeps, or a URI such as s3://bucket/folder",
                setting=name,
                given=location,
                allowed="an absolute path or a URI",
            )


def url(address: str) -> str:
    """Returns the address as a URL; ``host:port`` means HTTP.

    Args:
        address: the option ``--address``.

    Returns:
        The URL without a slash at its end.

    Raises:
        UserError: the scheme is neither ``http`` nor ``https``.
    """
    from assay.errors import UserError

    scheme, given, _ = address.partition("://")
    if given and scheme not in ("http", "https"):
        raise UserError(
            f"--address {address}: jobs are submitted to the cluster's dashboard, http://HOST:8265 or https://HOST",
            setting="--address",
            given=address,
            allowed=("http", "https"),
        )
    return (address if given else f"http://{address}").rstrip("/")


def connect(server: str) -> "JobSubmissionClient":
    """Connects to the job server.

    Args:
        server: its URL.

    Returns:
        The client.

    Raises:
        UserError: no cluster answers there, or it does not accept our token.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    from assay.errors import UserError

    os.environ[ADDRESS_VARIABLE] = server
    try:
        return JobSubmissionClient(server)
    except AuthenticationError:
        raise UserError(
            f"the Ray cluster at {server} demands a token, and ours is missing or wrong; set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the token with which the cluster was started"
        ) from None
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"no Ray cluster answers at {server} ({error}); start one with `ray start --head`, or give --address or "
            f"{ADDRESS_VARIABLE} the address of a cluster's dashboard, which on Kubernetes may need a port forwarded"
        ) from None


def submit(client: "JobSubmissionClient", server: str, job: str, arguments: Sequence[str], *, ship_assay: bool) -> str:
    """Sends the checkout, except what ``.rayignore`` and ``.gitignore`` name, and starts the job in it.

    Args:
        client: of the job server.
        server: its URL, for messages.
        job: name of the job.
        arguments: of the job.
        ship_assay: whether the package assay is sent too.

    Returns:
        ID of the submission.

    Raises:
        UserError: the checkout cannot be sent, or the cluster does not accept the job.
    """
    from assay.errors import UserError

    environment = runtime_environment(ship_assay=ship_assay)
    module = job if "." in job else f"jobs.{job}"
    entrypoint = shlex.join(["sh", "jobs/python.sh", "-m", module, *arguments])
    try:
        return str(client.submit_job(entrypoint=entrypoint, runtime_env=environment))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"the Ray cluster at {server} did not take the job: {error}") from None


def runtime_environment(*, ship_assay: bool) -> dict[str, object]:
    """Returns the Ray runtime environment: this checkout, the packages of ``ASSAY_PLUGINS``, and assay if requested.

    Args:
        ship_assay: whether the package assay is sent too.

    Returns:
        The runtime environment.
    """
    from assay.registry import plugins

    environment: dict[str, object] = {"working_dir": str(ROOT)}
    if plugins():
        from assay.cluster.session import plugin_environment

        environment |= plugin_environment()
    if ship_assay:
        shipped = environment.get("py_modules", [])
        environment["py_modules"] = [*shipped, str(ROOT / "platform" / "assay")]  # type: ignore[misc]
    return environment


def known(client: "JobSubmissionClient", server: str, submission: str) -> None:
    """Checks that a submission exists.

    Args:
        client: of the job server.
        server: its URL, for messages.
        submission: ID.

    Raises:
        UserError: the cluster has no such submission.
    """
    from assay.errors import UserError

    try:
        found = client.get_job_info(submission).submission_id
    except RuntimeError:
        found = None
    if found != submission:
        raise UserError(
            f"the Ray cluster at {server} has no submission {submission!r}; `ray job list --address {server}` lists them"
        )


async def follow_job(client: "JobSubmissionClient", server: str, submission: str) -> "JobDetails":
    """Prints the log as it grows, until the job has ended.

    The job server sends a log from its beginning, so after a lost connection the part that was printed before is
    skipped.

    Args:
        client: of the job server.
        server: its URL, for messages.
        submission: ID.

    Returns:
        The job after its end.

    Raises:
        UserError: the cluster has not answered for a minute.
    """
    from aiohttp import ClientError

    from assay.errors import UserError

    printed, answered = 0, time.monotonic()
    while True:
        received = 0
        try:
            async for text in client.tail_job_logs(submission):
                print(text[max(0, printed - received) :], end="", flush=True)
                received += len(text)
                printed = max(printed, received)
                answered = time.monotonic()
            job = client.get_job_info(submission)
            if job.status.is_terminal():
                return job
            answered = time.monotonic()
        except (OSError, RuntimeError, ClientError) as error:
            if time.monotonic() - answered > CONNECT_SECONDS:
                raise UserError(
                    f"the Ray cluster at {server} no longer answers ({error}); the job may still run. "
                    f"{ways(server, submission)}"
                ) from None
        await asyncio.sleep(1)


def verdict(job: "JobDetails") -> tuple[int, str]:
    """Returns the exit code and the final message for a job that has ended.

    Args:
        job: the job.

    Returns:
        Exit code and message.
    """
    if job.status == "SUCCEEDED":
        return 0, "succeeded"
    code = job.driver_exit_code
    if job.status == "FAILED" and code:
        # A process that was ended by a signal has a negative code; a shell returns 128 plus the signal.
        return (code, f"failed with exit code {code}") if code > 0 else (128 - code, f"was ended by signal {-code}")
    return 1, f"{job.status.value.lower()}: {job.message or 'the cluster does not say why'}"


def ways(server: str, submission: str) -> str:
    """Returns a message that says how to follow or stop a job.

    Args:
        server: URL of the job server.
        submission: ID.

    Returns:
        The message.
    """
    here = f"--address {server}"
    return f"Follow: python -m jobs.submit {here} --follow {submission}; stop: ray job stop {here} {submission}"


def _say(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)


# The first word that is not an option ends the options of submit: the rest belongs to the job.
app = application(main, allow_interspersed_args=False)

if __name__ == "__main__":
    app()
