"""Command line arguments and options that several jobs share."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from jobs.console import user_errors


def _to_come(until: str) -> str:
    """Returns a retention date if it is a valid date that has not passed; checked before anything is read or trained."""
    if until:
        with user_errors():
            from assay.ledger.experiments import Processing

            Processing(until=until).refuse_past(datetime.now(UTC).date().isoformat())
    return until


def _reservable(gpus: float | None) -> float | None:
    """Returns the GPUs of a worker if they can be reserved; checked before anything is read or sent to a cluster."""
    if gpus is not None:
        with user_errors():
            from assay.cluster.resources import checked_gpus

            checked_gpus(gpus)
    return gpus


def _joinable(address: str | None) -> str | None:
    """Returns the address of a cluster if a job can join it; checked before anything is read or sent to a cluster."""
    if address is not None:
        with user_errors():
            from assay.cluster.session import refuse_address

            refuse_address(address)
    return address


def _ending(seconds: float) -> float:
    """Returns how long to wait if it is a time that ends."""
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds:g} is no number of seconds; a job does not wait without an end")
    return seconds


# fmt: off
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study in jobs/studies, or the path of a YAML file.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Name of the recipe.")]
CohortOption = Annotated[str | None, typer.Option("--cohort", help="Name of the cohort; by default the first that has the recipe.")]
FoldOption = Annotated[int, typer.Option("--fold", min=1, help="Fold to hold out, from 1.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the study, such as split.folds=3 or preset=smoke. Repeatable.")]
Address = Annotated[str | None, typer.Option("--address", callback=_joinable, help="Ray cluster to join: auto, HOST:6379 or ray://HOST:10001; by default that of RAY_ADDRESS.")]
GpusPerTrial = Annotated[float | None, typer.Option("--gpus-per-trial", min=0, callback=_reservable, help="GPUs that each worker reserves: a share of one, such as 0.5, or whole ones. Default: an equal share where the cluster has GPUs. 0 uses no GPU.")]
WaitForWorkers = Annotated[float, typer.Option("--wait-for-workers", min=0, callback=_ending, envvar="ASSAY_WAIT_FOR_WORKERS", metavar="SECONDS", help="How long to wait for the first worker, on a cluster whose machines still have to start.")]
WAIT_FOR_WORKERS = 300.0
"""Default of ``--wait-for-workers``; that of the executor, which is not imported for ``--help``."""

# Options of every job that uses data; the ledger stores them.
LedgerFolder = Annotated[str | None, typer.Option("--ledger", envvar="ASSAY_LEDGER", help="Folder of the ledgers, the same for everything that uses these data; `ledger` beside the folder of the results by default.")]
Purpose = Annotated[str, typer.Option("--purpose", help="Why the records are processed, for the processing record.")]
LegalBasis = Annotated[str, typer.Option("--legal-basis", help="Legal basis of the processing, in your own words.")]
Until = Annotated[str, typer.Option("--until", metavar="YYYY-MM-DD", callback=_to_come, help="Last day on which models and results may be kept; then `jobs.ledger erase --expired` deletes them.")]
# fmt: on


def results_option(default: str) -> typer.models.OptionInfo:
    """Returns the option ``--results``.

    Args:
        default: location without the option, for the help text.

    Returns:
        The option.
    """
    return typer.Option("--results", help=f"Folder or URI; {default} by default.")


def one_of(kind: str, names: Sequence[str]) -> Callable[[str], str]:
    """Returns the check of an argument that must be one of some names; it runs before the job, and before one is sent.

    Args:
        kind: what is named, for the message.
        names: the known ones.

    Returns:
        The callback of the argument.
    """

    def check(name: str) -> str:
        if name not in names:
            # On standard error: standard output may be a result that a program reads.
            with user_errors(Console(stderr=True)):
                from assay.registry import unknown_name

                raise unknown_name(kind, name, list(names))
        return name

    return check
