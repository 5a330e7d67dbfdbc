"""Terminal output that all jobs share, and their handling of errors."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.progress_lines import Progress, as_line, lines_wanted

if TYPE_CHECKING:
    from assay.data.base import Dataset
    from assay.design import Design
    from assay.release.keeper import Keeper
    from assay.report.cells import Cell
    from assay.store.folder import Store
    from assay.study.spec import Study

STUDIES = Path(__file__).parent / "studies"
# Logs and pipes have no width; rich would assume 80 columns and wrap every table.
console = Console(width=None if sys.stdout.isatty() else 140)


@contextmanager
def user_errors(said: Console = console) -> Iterator[None]:
    """Ends the job with a message and exit code 2 after a user's mistake or a storage error.

    An internal error keeps its traceback.

    Args:
        said: console for the message.

    Raises:
        typer.Exit: with code 2.
    """
    from assay.errors import UserError, storage_error

    try:
        yield
    except (UserError, OSError) as error:
        for_user = error if isinstance(error, UserError) else storage_error(error)
        if for_user is None:
            raise
        said.print("error:", style="bold red", end=" ")
        said.print(str(for_user), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def application(main: Callable[..., None], **context: Any) -> typer.Typer:
    """Returns a command line that calls ``main``.

    Tracebacks are plain, because those of rich print local variables, which may contain secrets.

    Args:
        main: function whose parameters are typer options.
        context: settings of click's context.

    Returns:
        The application.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings=context)(main)
    return app


def run(main: Callable[..., None]) -> None:
    """Parses the command line and calls ``main``.

    Args:
        main: function whose parameters are typer options.
    """
    application(main)()


def count_of(number: int, noun: str) -> str:
    """Returns a number with its noun, such as ``1 worker`` or ``2 workers``.

    Args:
        number: the number.
        noun: in the singular.

    Returns:
        The phrase.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Returns a duration in words, such as ``3 min 20 s``.

    Args:
        seconds: the duration.

    Returns:
        The words.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def console_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Returns a plain table; long cells wrap.

    Args:
        heads: titles of the columns.
        rows: cells of each row.

    Returns:
        The table.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    return table


def keeper_for(
    study: "Study",
    results: str,
    address: str | None,
    said: Console = console,
    *,
    ledger: str | None,
    purpose: str,
    legal_basis: str,
    until: str,
) -> "Keeper | None":
    """Returns the keeper of the ledgers of a study's data; prints why where there can be none.

    Args:
        study: the study.
        results: location of the results.
        address: Ray cluster to join.
        said: console for messages.
        ledger: folder of the ledgers; the option ``--ledger``.
        purpose: of processing the records; by default the question or the title of the study.
        legal_basis: of processing the records.
        until: retention date, YYYY-MM-DD, or empty.

    Returns:
        The keeper, or None.

    Raises:
        LedgerError: there can be no ledger, although a recipe is to be released, or a folder was named.
    """
    from assay.cluster.ledger_actor import opening
    from assay.ledger.experiments import Processing
    from assay.release.keeper import keeper_of

    stated = purpose or study.question or study.title or f"study {study.name}"
    return keeper_of(
        study,
        results=results,
        given=ledger,
        processing=Processing(purpose=stated, legal_basis=legal_basis, until=until),
        opening=opening(address),
        warn=lambda why: said.print(why, style="yellow", markup=False, highlight=False, soft_wrap=True),
    )


def print_reading(said: Console, cohort: str, dataset: "Dataset") -> None:
    """Prints what was read of a cohort's data, and the warnings that will be shown with its accuracy.

    Args:
        said: console.
        cohort: name of the cohort.
        dataset: its data.
    """
    for line in dict.fromkeys((*dataset.reading, *dataset.warnings)):
        style = "yellow" if line in dataset.warnings else "dim"
        said.print(f"{cohort}: {line}", style=style, markup=False, highlight=False, soft_wrap=True)


def evaluating(done: int, pieces: int) -> None:
    """Prints a line at each tenth of an evaluation that workers share.

    Args:
        done: finished pieces.
        pieces: all pieces.
    """
    if pieces > 1 and print_progress_line(done, pieces, "evaluating"):
        return
    if pieces > 1 and (done == pieces or done * 10 // pieces > (done - 1) * 10 // pieces):
        console.print(f"evaluating: {done} of {pieces} pieces", highlight=False)


def print_progress_line(done: int, total: int, doing: str) -> bool:
    """Prints progress as a line for programs, where the environment asks for that.

    Args:
        done: finished pieces.
        total: all pieces.
        doing: what is being done.

    Returns:
        Whether it was printed.
    """
    if not lines_wanted():
        return False
    line = as_line(Progress(done, total, doing))
    console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
    return True


def _mark(cell: "Cell") -> str:
    return "✖" if cell.failed else "▲" if cell.warnings else ""


def print_scorecards(study: "Study", store: "Store", said: Console = console) -> None:
    """Prints the scorecard of each cohort, as the report shows it.

    Args:
        study: the study.
        store: of its results.
        said: console.
    """
    from assay.report.scorecard import scorecard
    from assay.report.words import cell_text, design_text, interval_text, notes

    frame = store.frame()
    shown = ("accuracy", "f1", "auroc", "robust", "epsilon", "membership", "faithfulness", "seconds")
    for name in study.cohorts:
        card = scorecard(study, name, frame)
        columns = [column for column in card.evidence if column.key in shown]
        rows = [
            (
                recipe,
                *(
                    f"{cell_text(card.cells[recipe, c.key], c)} {_mark(card.cells[recipe, c.key])}\n"
                    f"[dim]{interval_text(card.cells[recipe, c.key], c)}{_told(notes(card, recipe, c, card.design))}[/dim]"
                    for c in columns
                ),
            )
            for recipe in card.recipes
        ]
        said.print(console_table([name, *(column.title for column in columns)], rows))
        said.print(f"{design_text(card.design)}: {_below(card.design)}", style="dim", highlight=False)
    said.print("▲ a warning, ✖ a failed check stands beside the figure in the report", style="dim")


def _told(said: Iterable[str]) -> str:
    return "".join(f"\n{note}" for note in said)


def _below(design: "Design") -> str:
    """Returns a line that explains the interval below each figure."""
    if (design.done or design.runs) == 1:
        return "95 % interval over records below"
    if design.official:
        return "mean over seeds, below it the 95 % interval of test records and seeds together"
    return "mean over folds, corrected 95 % interval below"
