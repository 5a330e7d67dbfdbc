"""The ledger of a data set: what was released of it, what that spent, and what of it must be deleted.

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
    "The ledger of a data set: what was done with its records, what was released, and what that spent.\n\n"
    "Experiments stay with you and are only recorded. Whatever leaves, a served model, an exported model or report, is "
    "charged first, adds up with all that left before, and is refused beyond the budget. One file a data set; ledgers "
    "lie in `ledger` beside the folder of the results, or where ASSAY_LEDGER or --ledger says: use one folder for all "
    "that uses the same patients. What was trained with noise: entropy holds its part of the budget from before its "
    "training on, and for good once it has begun; what never began is given back with erase --reservations."
))  # fmt: skip

Place = Annotated[str | None, typer.Argument(metavar="[PLACE]", help="A folder of results, a folder of ledgers, or one .sqlite file; results/ledger by default.")]  # fmt: skip
Results = Annotated[str, typer.Argument(metavar="RESULTS", help="Folder or URI of a finished study.")]
Data = Annotated[str | None, typer.Option("--data", help="Name of the data set, where there are several.")]
LedgerFold = Annotated[int, typer.Option(min=1, help="LedgerFold, from 1.")]
Repeat = Annotated[int, typer.Option(min=1, help="Repeat, from 1.")]
BudgetOption = Annotated[float | None, typer.Option("--budget", help="Total ε of this data set, over everything ever released from it. Set once; changing it needs --reason.")]  # fmt: skip
Delta = Annotated[float | None, typer.Option("--delta", help="δ of the budget, below 1/n; 1e-5 by default.")]
Reason = Annotated[str, typer.Option("--reason", help="Why the budget changes; stays on record. Never because of what releases have shown.")]  # fmt: skip
Best = Annotated[bool, typer.Option("--best", help="The model was chosen by looking at the results of others: charge all that this study trained on the same data, of every cohort and plan, failed, replaced and deleted ones too.")]  # fmt: skip
Declared = Annotated[bool, typer.Option("--declared", help="Fix all releasable trials of the cohort as the plan, before any has left, and reserve it as a whole: then PLD counts, which is tighter. Without it an RDP filter counts, under which each release may be chosen after seeing the others.")]  # fmt: skip


@app.command()
def show(
    place: Place = None,
    data: Data = None,
    budget: BudgetOption = None,
    delta: Delta = None,
    reason: Reason = "",
) -> None:
    """Show what was spent and by whom, what is left, why records are processed, and what has expired.

    With --budget, set the budget of a data set, or with --reason too, change it.
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
    """Charge one trained model before it leaves, once. Refused if it is seeded, not private, failed, or too expensive."""
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
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="New folder that is handed over.")],
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

    With --report, the study's page: it tells of every trial, so all are charged, and one that may not be released, or a
    figure that was read off training records, keeps the whole page here.
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
    head: Annotated[str, typer.Option(help="What an earlier call printed: the ledger must go on from there.")] = "",
) -> None:
    """Check that no row of a ledger was changed, added or deleted by another hand, and name the first one that was.

    Keep the printed head elsewhere, and give it the next time: then an older copy of the ledger is noticed too.
    """
    with user_errors():
        from assay.cluster.ledger_actor import cluster_joined

        with cluster_joined():
            ledgers = ledgers_at(place, data)
            for ledger in [only_one(ledgers)] if head else ledgers:
                found = ledger.verify(head)
                said = f"every row is as it was written; head {found}"
                if not found:
                    said = "of an earlier version: its rows are sealed as they are when it is next written to"
                console.print(f"{ledger.name}: {said}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def erase(
    place: Place = None,
    record: Annotated[int | None, typer.Option(min=0, help="Position of a record in the data set, from 0.")] = None,
    patient: Annotated[str | None, typer.Option(help="ID of a patient, as the data set's groups name it.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Delete models and results whose last day has passed.")] = False,
    reservations: Annotated[bool, typer.Option("--reservations", help="Give back the budget reserved for trainings that never began. What has begun counts, whatever became of it.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --record or --patient: delete what is listed.")] = False,
    data: Data = None,
) -> None:  # fmt: skip
    """List every model and result that a patient's records went into, and with --delete, delete them.

    What was released cannot be unlearnt or called back from here: it is listed, with where it went. Charges stay in the
    ledger whatever is deleted, since what was spent is never given back.
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
            rows, told = _rows(ledger, record, patient)
            traces = ledger.traces(rows)
            if delete:
                erase_trials(ledger, [one.experiment for one in traces if not one.experiment.erased], asked=told)
            print_traces(ledger, traces, told, deleted=delete)


def _charging(
    how: str, budget: tuple[float | None, float | None, str], stated: tuple[str, str, str]
) -> Callable[..., None]:
    """``release.candidates.charge`` for one release, whatever it is of.

    Args:
        how: where it goes, in words.
        budget: ε, δ and why they change.
        stated: purpose, legal basis and last day.

    Raises:
        UserError: something is said of a budget, and none is given.
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
    """Raises UserError where an option means nothing for a report.

    Raises:
        UserError: an option chooses a model, and a report tells of all.
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
    """Charge a model and write it: the account afterwards, and what was written."""
    from assay.release.export import export_model
    from assay.store.folder import Store

    kept, (chosen, dataset) = _charged(charging, results, place, ledger, best=best, declared=declared)
    account = kept.account()
    return [account], export_model(Store(results), chosen, folder, dataset, account)


def _export_report(
    charging: Callable[..., None], results: str, folder: Path, ledger: str | None, *, declared: bool
) -> tuple[list["Account"], list[Path]]:
    """Charge every trial of a report and write it: the account of each data set afterwards, and what was written."""
    from assay.release.export import export_report, report_of
    from assay.report.page import render
    from assay.store.folder import Store

    made = report_of(Store(results), render)
    ledgers = [ledger_of(part.dataset, results, ledger) for part in made.parts]
    # All of them let it pass, or none is charged.
    for rehearsed, (kept, part) in product((True, False), zip(ledgers, made.parts, strict=True)):
        charging(kept, part.included, plan=part.included if declared else None, rehearsed=rehearsed)
    accounts = [kept.account() for kept in ledgers]
    return accounts, export_report(made, folder, accounts)


def _charged(
    charging: Callable[..., None], results: str, place: _Place, ledger: str | None, *, best: bool, declared: bool
) -> tuple["LedgerProtocol", tuple["Candidate", "Dataset"]]:
    """Charge one model, with what it was chosen by, or as a part of its plan.

    Returns:
        The ledger that knows it now, and the model with its data.
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
    """The data, the one trial, and all finished trials of its cohort: its plan."""
    from assay.release.candidates import candidates
    from assay.study.finished import open_finished

    recipe, cohort, fold, repeat = place
    finished = open_finished(store, recipe=recipe, cohort=cohort, fold=fold, repeat=repeat)
    others = [one for one in candidates(store) if one.cohort == finished.cohort or one.trial == finished.trial]
    (chosen,) = (one for one in others if one.trial == finished.trial)
    return finished.dataset, chosen, others


def _rows(ledger: "LedgerProtocol", record: int | None, patient: str | None) -> tuple[list[int], str]:
    """Positions of the record or of a patient's records, and what they are, in words."""
    if record is not None:
        return [record], f"record {record}"
    assert patient is not None
    rows = ledger.positions_of(patient).tolist()
    return rows, f"{len(rows)} records of a patient"


def _expire(ledger: "LedgerProtocol") -> None:
    from assay.release.erasure import erase_trials

    gone = ledger.expired(_today())
    erase_trials(ledger, gone, asked="retention date passed")
    console.print(f"{ledger.name}: {len(gone)} experiments had expired and are deleted; charges stay", highlight=False)


def _drop(ledger: "LedgerProtocol") -> None:
    dropped = ledger.drop([one.training for one in ledger.account().charges if one.state == "reserved"])
    console.print(f"{ledger.name}: {len(dropped)} reservations given back", highlight=False)
    for label in dropped:
        console.print(f"  {label}", markup=False, highlight=False)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


if __name__ == "__main__":
    app()
