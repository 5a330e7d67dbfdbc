"""Submit one of the jobs to a Ray cluster, follow its log, and end with its exit code.

python -m jobs.submit study quickstart --results /shared/results/quickstart
"""

import asyncio
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from jobs.console import application, console, user_errors
from jobs.progress_lines import VARIABLE as PROGRESS_VARIABLE

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

HERE = Path(__file__).parent
ROOT = HERE.parent
# Commands for files of the machine where they are typed; a job's log is no place for a token.
LOCAL = ("log", "serve", "tokens")
# Every other module of this folder that can be run is a job, except this one.
JOBS = sorted(
    path.stem
    for path in HERE.glob("[!_]*.py")
    if path.stem not in ("submit", *LOCAL) and '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
# Ray reads the address of its job server from this variable even if it is given as an argument.
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
INTERRUPTED = 130
# EX_TEMPFAIL of sysexits.h: how the job ends is not known, and following it again may tell.
LOST_CONTACT = 75
# The job ended with the head of its cluster.
FORGOTTEN = 1
RESUME = (
    "What it had finished is in its folder of results: submit it again with the same --results, and it goes on from "
    "there (jobs.train from its last checkpoint)"
)


def main(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help=f"One of: {', '.join(JOBS)}; or the module of a package that ASSAY_PLUGINS names.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENTS]...", help="Arguments of the job, passed on unchanged. Options of submit itself come before the job.")] = None,
    address: Annotated[str, typer.Option(envvar=ADDRESS_VARIABLE, help="Address of the cluster's dashboard.")] = "http://127.0.0.1:8265",
    cpus: Annotated[float | None, typer.Option(min=0, help="CPUs to reserve for the job's own process, not for its workers; by default it runs beside the head and reserves nothing.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="GPUs to reserve for the job's own process, for a job that computes without workers.")] = None,
    ship_assay: Annotated[bool, typer.Option("--ship-assay", help="Also send the package assay, for a cluster that has only its dependencies.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the ID of the submission and do not wait.")] = False,
    follow: Annotated[str | None, typer.Option(metavar="ID", help="Follow a job that was submitted before.")] = None,
    stop_on_interrupt: Annotated[bool | None, typer.Option("--stop-on-interrupt/--keep-on-interrupt", help="Whether Ctrl-C stops the job too; by default a terminal is asked, and elsewhere the job goes on.")] = None,
) -> None:  # fmt: skip
    """Submit a job to a Ray cluster with this checkout as its working folder, and follow it to its end.

    The exit code is that of the job; 1 if the job was stopped, never began, or ended with the head of its cluster, 75 if
    the cluster no longer answers.
    """
    with user_errors():
        from assay.errors import UserError
        from jobs.refusals import check_arguments

        if (job is None) == (follow is None):
            raise UserError(f"give either a job ({', '.join(JOBS)}) or --follow and the ID of a submission")
        if follow is not None:
            _refuse_with_follow({"--detach": detach, "--ship-assay": ship_assay, "--cpus": cpus, "--gpus": gpus})
        for option, reserved in {"--cpus": cpus, "--gpus": gpus}.items():
            if reserved is not None and not math.isfinite(reserved):
                raise UserError(f"{option} {reserved:g} is no number that a job could reserve", setting=option)
        if job is not None:
            check_arguments(job, arguments or (), JOBS)
        server = url(address)
        client = connect(server)
        if job is not None:
            submission = submit(client, server, job, arguments or (), ship_assay=ship_assay, cpus=cpus, gpus=gpus)
            if detach:
                print(submission)
                return
            _say(f"submitted to {server} as {submission}")
        else:
            submission = str(follow)
            known(client, server, submission)
        code = followed(client, server, submission, stop_too=stop_on_interrupt)
    raise typer.Exit(code)


def _refuse_with_follow(options: Mapping[str, object]) -> None:
    """Refuses options that concern a job which is yet to be sent."""
    from assay.errors import UserError

    given = [option for option, value in options.items() if value not in (None, False)]
    if given:
        raise UserError(
            f"--follow and {given[0]} exclude each other: what is followed was submitted before", setting=given[0]
        )


def followed(client: "JobSubmissionClient", server: str, submission: str, *, stop_too: bool | None) -> int:
    """Follows a job to its end, and says how it ended.

    Args:
        client: of the job server.
        server: its URL, for messages.
        submission: ID.
        stop_too: whether an interrupt stops the job; None asks on a terminal.

    Returns:
        The exit code: that of the job, unless contact was lost or the user interrupts.
    """
    from jobs.following import Display, ForgottenError, LostContactError, follow_job, verdict

    try:
        with Display(console) as display:
            ended = asyncio.run(follow_job(client, submission, display))
    except LostContactError as error:
        _say(
            f"the Ray cluster at {server} no longer answers ({error}); the job may still run. {ways(server, submission)}"
        )
        return LOST_CONTACT
    except ForgottenError:
        _say(
            f"the Ray cluster at {server} answers, and no longer knows {submission}: its head was started again, which "
            f"ended the job. {RESUME}"
        )
        return FORGOTTEN
    except KeyboardInterrupt:
        _interrupted(client, server, submission, stop_too=stop_too)
        return INTERRUPTED
    code, words = verdict(ended)
    _say(f"{submission} {words}")
    return code


def _interrupted(client: "JobSubmissionClient", server: str, submission: str, *, stop_too: bool | None) -> None:
    """Stops the job where that is asked for, and says what became of it."""
    from jobs.following import asked_to_stop, stop

    if not (asked_to_stop(console) if stop_too is None else stop_too):
        _say(f"\nno longer following; the job still runs. {ways(server, submission)}")
        return
    _say(f"\nstopping {submission} …")
    try:
        ended = stop(client, submission)
    except (OSError, RuntimeError) as error:
        _say(f"the Ray cluster at {server} does not say that it stopped the job ({error}). {ways(server, submission)}")
    else:
        _say(f"{submission} stopped" if ended else f"it has not ended within a minute. {ways(server, submission)}")


def url(address: str) -> str:
    """Returns the address as a URL; ``host:port`` means HTTP.

    Args:
        address: the option ``--address``.

    Returns:
        The URL without a slash at its end.

    Raises:
        UserError: it is no such URL: another scheme, no host, or a port that is none.
    """
    from assay.errors import UserError

    read = urlsplit(address if "://" in address else f"http://{address}")
    try:
        usable = read.scheme in ("http", "https") and bool(read.hostname) and read.port != 0 and " " not in address
    except ValueError:  # a port that is no number, or beyond 65535
        usable = False
    if not usable or address == "auto":
        raise UserError(
            f"--address {address}: jobs are submitted to the cluster's dashboard; give http://HOST:8265, https://HOST "
            f"or HOST:8265, or set {ADDRESS_VARIABLE} to it",
            setting="--address",
            given=address,
            allowed=("http://HOST:8265", "https://HOST", "HOST:8265"),
        )
    return read.geturl().rstrip("/")


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
            f"{ADDRESS_VARIABLE} the address of a cluster's dashboard, such as http://HOST:8265, which on Kubernetes may "
            "need a port forwarded. The port of ray:// and that of the head (6379) take no jobs"
        ) from None


def submit(
    client: "JobSubmissionClient",
    server: str,
    job: str,
    arguments: Sequence[str],
    *,
    ship_assay: bool,
    cpus: float | None = None,
    gpus: float | None = None,
) -> str:
    """Sends the checkout, except what ``.rayignore`` and ``.gitignore`` name, and starts the job in it.

    Args:
        client: of the job server.
        server: its URL, for messages.
        job: name of the job.
        arguments: of the job.
        ship_assay: whether the package assay is sent too.
        cpus: reserved for the job's own process.
        gpus: reserved for the job's own process.

    Returns:
        ID of the submission.

    Raises:
        UserError: the checkout cannot be sent, or the cluster does not accept the job.
    """
    from assay.errors import UserError

    # Ray names every ignored file several times.
    logging.getLogger("ray._private.runtime_env").setLevel(logging.ERROR)
    environment = runtime_environment(ship_assay=ship_assay)
    module = job if "." in job else f"jobs.{job}"
    entrypoint = shlex.join(["sh", "jobs/python.sh", "-m", module, *arguments])
    try:
        return str(
            client.submit_job(
                entrypoint=entrypoint, runtime_env=environment, entrypoint_num_cpus=cpus, entrypoint_num_gpus=gpus
            )
        )
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

    variables, modules = {PROGRESS_VARIABLE: "lines"}, []
    if plugins():
        from assay.cluster.session import plugin_environment

        given = plugin_environment()
        variables |= given["env_vars"]
        modules += given["py_modules"]
    if ship_assay:
        modules.append(str(ROOT / "platform" / "assay"))
    environment: dict[str, object] = {"working_dir": str(ROOT), "env_vars": variables}
    return environment | ({"py_modules": modules} if modules else {})


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
            f"the Ray cluster at {server} has no submission {submission!r}: `ray job list --address {server}` lists those "
            f"it knows. If its head was started again since, the job ended with it. {RESUME}"
        )


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
