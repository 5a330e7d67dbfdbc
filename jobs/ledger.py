"""The ledger of a data set: what was released from it, what that spent, and what must be deleted.

python -m jobs.ledger release results/quickstart --recipe private --budget 3 --purpose "triage at the clinic"
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from click.core import ParameterSource

from jobs.console import console, user_errors
from jobs.ledger_places import ledger_of, ledgers_at, only_one
from jobs.ledger_tables import print_account, print_ledger, print_traces
from jobs.options import CohortOption, LedgerFolder, LegalBasis, Purpose, RecipeName, Until

if TYPE_CHECKING:
    from assay.data.base import Dataset
    from assay.ledger.account import Account
    from assay.ledger.protocol import LedgerProtocol
    from assay.release.candidates import Candidate
    from assay.store.folder import Store

_Place = tuple[str, str | None, int, int]
"""Recipe, cohort, fold and repeat of a trial."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=(
    "The ledger of a data set: the experiments on its records, the releases from it, and the ε that they spent.\n\n"
    "Experiments stay with you and are only recorded. A release (a served model, an exported model or report) is "
    "charged first. Charges add up with all earlier releases, and are refused beyond the budget. Each data set has one "
    "file. Ledgers are in `ledger` beside the folder of the results, or in the folder of ASSAY_LEDGER or --ledger: use "
    "one folder for everything that uses the same patients. A training with noise: entropy reserves its part of the "
    "budget before it begins, and permanently once it has begun; erase --reservations gives back what never began."
))  # fmt: skip

Place = Annotated[str | None, typer.Argument(metavar="[PLACE]", help="A folder of results, a folder of ledgers, or one .sqlite file; results/ledger by default.")]  # fmt: skip
Results = Annotated[str, typer.Argument(metavar="RESULTS", help="Folder or URI of a finished study.")]
Data = Annotated[str | None, typer.Option("--data", help="Name of the data set, where there are several.")]
LedgerFold = Annotated[int, typer.Option(min=1, help="Fold, from 1.")]
Repeat = Annotated[int, typer.Option(min=1, help="Repeat, from 1.")]
BudgetOption = Annotated[float | None, typer.Option("--budget", help="Total ε of all releases from this data set. Set once; a change needs --reason.")]  # fmt: skip
Delta = Annotated[float | None, typer.Option("--delta", help="δ of the budget, below 1/n; 1e-5 by default.")]
Reason = Annotated[str, typer.Option("--reason", help="Why the budget changes; stays on record. The results of earlier releases must not be the reason.")]  # fmt: skip
Best = Annotated[bool, typer.Option("--best", help="The model was chosen by the results of others: charge all trainings of this study on the same data, of every cohort and plan, including failed, replaced and deleted ones.")]  # fmt: skip
Declared = Annotated[bool, typer.Option("--declared", help="Declare all releasable trials of the cohort as the plan, before the first release, and reserve the whole plan: it is then composed by PLD, which is tighter. Without it an RDP filter applies, and each release may be chosen after seeing the others.")]  # fmt: skip


@app.command()
def show(
    place: Place = None,
    data: Data = None,
    budget: BudgetOption = None,
    delta: Delta = None,
    reason: Reason = "",
) -> None:
    """Show what was spent and by whom, what is left, why records are processed, and what has expired.

    With --budget, set the budget of a data set; with --reason too, change it.
    """
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined
        from assay.errors import LedgerError, UserError

        if reason and budget is None and delta is None:
            raise UserError("--reason says why a budget changes: give --budget too, or leave --reason out")
        with cluster_joined():
            ledgers = ledgers_at(place, data)
            if budget is not None or delta is not None:
                ledger = only_one(ledgers)
                before = ledger.budgets()
                if budget is None and not before:
                    raise LedgerError("--delta alone changes a budget that is set; give --budget too")
                ledger.set_budget(before[-1].epsilon if budget is None else budget, delta=delta, reason=reason)
            for ledger in ledgers:
                print_ledger(ledger, ledgers, today=_today())


@app.command()
def release(
    results: Results,
    recipe: RecipeName,
    cohort: CohortOption = None,
    fold: LedgerFold = 1,
    repeat: Repeat = 1,
    budget: BudgetOption = None,
    delta: Delta = None,
    reason: Reason = "",
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
    best: Best = False,
    declared: Declared = False,
    ledger: LedgerFolder = None,
) -> None:
    """Charge one trained model before its release, once. Refused if it is seeded, not private, failed, or too expensive."""
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined

        charging = _charging("released", (budget, delta, reason), (purpose, legal_basis, until))
        with cluster_joined():
            kept, _ = _charged(charging, results, (recipe, cohort, fold, repeat), ledger, best=best, declared=declared)
            print_account(kept.account())


@app.command()
def export(
    context: typer.Context,
    results: Results,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="New folder for the export.")],
    recipe: Annotated[str | None, typer.Option("--recipe", help="Name of the recipe.")] = None,
    report: Annotated[bool, typer.Option("--report", help="The report instead of a model: charges every trial in it.")] = False,
    cohort: CohortOption = None,
    fold: LedgerFold = 1,
    repeat: Repeat = 1,
    budget: BudgetOption = None,
    delta: Delta = None,
    reason: Reason = "",
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
    best: Best = False,
    declared: Declared = False,
    ledger: LedgerFolder = None,
) -> None:  # fmt: skip
    """Release a model, unless it is released already, and write its weights and claim to a folder.

    With --report, export the report of the study. It shows every trial, so all are charged. The export is refused if a
    trial may not be released, or if a figure was computed from training records.
    """
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined
        from assay.errors import UserError
        from assay.release.export import NOT_COVERED

        folder = Path(to).expanduser().resolve()
        if report == (recipe is not None):
            raise UserError("give either --recipe and its name, or --report")
        if report:
            _refuse_beside_report(context)
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"--to {folder} is not empty; name a new folder")
        charging = _charging(f"exported to {folder}", (budget, delta, reason), (purpose, legal_basis, until))
        with cluster_joined():
            if recipe is None:
                accounts, written = _export_report(charging, results, folder, ledger, declared=declared)
            else:
                place = recipe, cohort, fold, repeat
                accounts, written = _export_model(
                    charging, results, folder, place, ledger, best=best, declared=declared
                )
            for account in accounts:
                print_account(account)
        console.print(f"not covered: {NOT_COVERED}", style="yellow", highlight=False)
        for path in written:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command()
def verify(
    place: Place = None,
    data: Data = None,
    head: Annotated[
        str, typer.Option(help="Head that an earlier call printed: the ledger must continue from that state.")
    ] = "",
) -> None:
    """Check that no other program changed, added or deleted a row of a ledger, and name the first such row.

    Keep the printed head in another place, and give it to the next call: then an older copy of the ledger is recognised
    too.
    """
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined

        with cluster_joined():
            ledgers = ledgers_at(place, data)
            for ledger in [only_one(ledgers)] if head else ledgers:
                last_seal = ledger.verify(head)
                status = f"every row is as it was written; head {last_seal}"
                if not last_seal:
                    status = "of an earlier version: its rows are sealed as they are when it is next written to"
                console.print(f"{ledger.name}: {status}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def erase(
    place: Place = None,
    record: Annotated[int | None, typer.Option(min=0, help="Position of a record in the data set, from 0.")] = None,
    patient: Annotated[str | None, typer.Option(help="ID of a patient, as in the groups of the data set.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Delete models and results whose retention date has passed.")] = False,
    reservations: Annotated[bool, typer.Option("--reservations", help="Give back the budget reserved for trainings that never began. Trainings that began count, whatever their outcome.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --record or --patient: delete what is listed.")] = False,
    data: Data = None,
) -> None:  # fmt: skip
    """List every model and result for which a patient's records were used, and with --delete, delete them.

    A released model cannot unlearn the records or be recalled from here: it is listed with its destination. Charges
    stay in
    the ledger whatever is deleted, since spent ε is never given back.
    """
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined
        from assay.errors import UserError
        from assay.release.erasure import erase_trials

        if sum((record is not None, patient is not None, expired, reservations)) != 1:
            raise UserError("give one of --record, --patient, --expired and --reservations")
        if delete and expired:
            raise UserError("--expired deletes without being asked twice: leave --delete out")
        if delete and reservations:
            raise UserError("--reservations deletes no model and no result: leave --delete out")
        with cluster_joined():
            ledgers = ledgers_at(place, data)
            if expired or reservations:
                for ledger in ledgers:
                    _expire(ledger) if expired else _drop(ledger)
                return
            ledger = only_one(ledgers)
            rows, request = _rows(ledger, record, patient)
            traces = ledger.traces(rows)
            if delete:
                remaining = [trace.experiment for trace in traces if not trace.experiment.erased]
                erase_trials(ledger, remaining, asked=request)
            print_traces(ledger, traces, request, deleted=delete)


def _charging(
    how: str, budget: tuple[float | None, float | None, str], stated: tuple[str, str, str]
) -> Callable[..., None]:
    """Returns ``release.candidates.charge`` with the settings of one release.

    Args:
        how: destination, as text.
        budget: ε, δ and why they change.
        stated: purpose, legal basis and retention date.

    Raises:
        UserError: an option about a budget was given without a budget.
    """
    from assay.errors import UserError
    from assay.ledger.experiments import Processing
    from assay.release.candidates import charge

    epsilon, delta, reason = budget
    if epsilon is None and (delta is not None or reason):
        option = "--reason" if delta is None else "--delta"
        raise UserError(f"{option} is about a budget: give --budget too, or leave {option} out")
    purpose, legal_basis, until = stated
    processing = Processing(purpose=purpose, legal_basis=legal_basis, until=until)
    return partial(charge, how=how, budget=budget, processing=processing)


def _refuse_beside_report(context: typer.Context) -> None:
    """Raises an error for options that do not apply to a report.

    Raises:
        UserError: an option selects one model, but a report shows all.
    """
    from assay.errors import UserError

    chosen = ("cohort", "fold", "repeat", "best")
    given = [name for name in chosen if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        named = " and ".join(f"--{name}" for name in given)
        raise UserError(f"{named}: a report tells of every trial, and all are charged: leave {named} out of --report")


def _export_model(
    charging: Callable[..., None], results: str, folder: Path, place: _Place, ledger: str | None, *, best: bool,
    declared: bool,
) -> tuple[list["Account"], list[Path]]:  # fmt: skip
    """Charges a model and exports it; returns the account after the charge and the written files."""
    from assay.release.export import export_model
    from assay.store.folder import Store

    kept, (chosen, dataset) = _charged(charging, results, place, ledger, best=best, declared=declared)
    account = kept.account()
    return [account], export_model(Store(results), chosen, folder, dataset, account)


def _export_report(
    charging: Callable[..., None], results: str, folder: Path, ledger: str | None, *, declared: bool
) -> tuple[list["Account"], list[Path]]:
    """Charges every trial of a report and exports it; returns the account of each data set and the written files."""
    from assay.release.export import export_report, report_of
    from assay.report.page import render
    from assay.store.folder import Store

    report = report_of(Store(results), render)
    ledgers = [ledger_of(part.dataset, results, ledger) for part in report.parts]
    # Rehearsed first, so that either all ledgers accept the charge or none is charged.
    for rehearsed, (account_book, part) in product((True, False), zip(ledgers, report.parts, strict=True)):
        charging(account_book, part.included, plan=part.included if declared else None, rehearsed=rehearsed)
    accounts = [account_book.account() for account_book in ledgers]
    return accounts, export_report(report, folder, accounts)


def _charged(
    charging: Callable[..., None], results: str, place: _Place, ledger: str | None, *, best: bool, declared: bool
) -> tuple["LedgerProtocol", tuple["Candidate", "Dataset"]]:
    """Charges one model, together with the trainings that influenced its choice, or as a part of its plan.

    Returns:
        The ledger after the charge, and the model with its data.
    """
    from assay.errors import UserError
    from assay.release.choice import looked_at
    from assay.store.folder import Store

    store = Store(results)
    dataset, chosen, others = _trained(store, place)
    kept = ledger_of(dataset, results, ledger)
    if best and declared:
        raise UserError("--best and --declared exclude each other: a plan is charged as a whole anyway")
    seen = looked_at(kept, store, chosen) if best else ()
    charging(kept, [chosen], looked_at=seen, plan=others if declared else None)
    return kept, (chosen, dataset)


def _trained(store: "Store", place: _Place) -> tuple["Dataset", "Candidate", list["Candidate"]]:
    """Returns the data, the trial, and all finished trials of its cohort, which are its plan."""
    from assay.release.candidates import candidates
    from assay.study.finished import open_finished

    recipe, cohort, fold, repeat = place
    finished = open_finished(store, recipe=recipe, cohort=cohort, fold=fold, repeat=repeat)
    others = [item for item in candidates(store) if item.cohort == finished.cohort or item.trial == finished.trial]
    (chosen,) = (item for item in others if item.trial == finished.trial)
    return finished.dataset, chosen, others


def _rows(ledger: "LedgerProtocol", record: int | None, patient: str | None) -> tuple[list[int], str]:
    """Returns the positions of the record or of a patient's records, and a description of them."""
    if record is not None:
        return [record], f"record {record}"
    assert patient is not None
    rows = ledger.positions_of(patient).tolist()
    return rows, f"{len(rows)} records of a patient"


def _expire(ledger: "LedgerProtocol") -> None:
    from assay.release.erasure import erase_trials

    expired = ledger.expired(_today())
    erase_trials(ledger, expired, asked="retention date passed")
    console.print(
        f"{ledger.name}: {len(expired)} experiments had expired and are deleted; charges stay", highlight=False
    )


def _drop(ledger: "LedgerProtocol") -> None:
    dropped = ledger.drop([charge.training for charge in ledger.account().charges if charge.state == "reserved"])
    console.print(f"{ledger.name}: {len(dropped)} reservations given back", highlight=False)
    for label in dropped:
        console.print(f"  {label}", markup=False, highlight=False)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


if __name__ == "__main__":
    app()
