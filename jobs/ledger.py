"""The ledger of a data set: what was released of it, what that spent, and what of it must be deleted.

python -m jobs.ledger release results/quickstart --recipe private --budget 3 --purpose "triage at the clinic"
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.console import LedgerFolder, LegalBasis, Purpose, Until, console, user_errors
from jobs.ledger_tables import print_account, print_ledger, print_traces

if TYPE_CHECKING:
    from assay.data.base import Dataset
    from assay.privacy.ledger import Ledger
    from assay.study.release import Candidate
    from assay.study.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=(
    "The ledger of a data set: what was done with its records, what was released, and what that spent.\n\n"
    "Experiments stay with you and are only recorded. Whatever leaves, a served model, an exported model or report, is "
    "charged first, adds up with all that left before, and is refused beyond the budget. One file a data set; ledgers "
    "lie in `ledger` beside the folder of the results, or where ASSAY_LEDGER or --ledger says: use one folder for all "
    "that uses the same patients. What was trained with noise: entropy holds its part of the budget from before its "
    "training on; give it back with erase --reservations."
))  # fmt: skip

Place = Annotated[str | None, typer.Argument(metavar="[PLACE]", help="A folder of results, a folder of ledgers, or one .sqlite file; results/ledger by default.")]  # fmt: skip
Results = Annotated[str, typer.Argument(metavar="RESULTS", help="Folder or URI of a finished study.")]
Data = Annotated[str | None, typer.Option("--data", help="Name of the data set, where there are several.")]
Recipe = Annotated[str | None, typer.Option("--recipe", help="Name of the recipe in the study.")]
Cohort = Annotated[str | None, typer.Option(help="Cohort; the first that has the recipe by default.")]
Fold = Annotated[int, typer.Option(min=1, help="Fold, from 1.")]
Repeat = Annotated[int, typer.Option(min=1, help="Repeat, from 1.")]
BudgetOption = Annotated[float | None, typer.Option("--budget", help="ε that everything ever released from these data may spend together; needed once, then it stays. Another one needs --reason.")]  # fmt: skip
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
    with user_errors(), _joined():
        ledgers = _ledgers(place, data)
        if budget is not None or delta is not None:
            from assay.errors import LedgerError

            (ledger,) = _one(ledgers)
            before = ledger.budgets()
            if budget is None and not before:
                raise LedgerError("--delta alone changes a budget that is set; give --budget too")
            ledger.set_budget(before[-1].epsilon if budget is None else budget, delta=delta, reason=reason)
        for ledger in ledgers:
            print_ledger(ledger, ledgers, today=_today())


@app.command()
def release(
    results: Results,
    recipe: Recipe = None,
    cohort: Cohort = None,
    fold: Fold = 1,
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
    with user_errors(), _joined():
        from assay.privacy.ledger.experiments import Processing
        from assay.study.release import charge

        store, dataset, chosen, others = _trained(results, _recipe(recipe), cohort, fold, repeat)
        kept = _ledger_of(dataset, results, ledger)
        charge(
            kept, [chosen], how="released", budget=(budget, delta, reason),
            processing=Processing(purpose=purpose, legal_basis=legal_basis, until=until),
            looked_at=_looked_at(kept, store, chosen, best=best, declared=declared), plan=others if declared else None,
        )  # fmt: skip
        print_account(kept.account())


@app.command()
def export(
    results: Results,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="New folder that is handed over.")],
    recipe: Recipe = None,
    report: Annotated[bool, typer.Option("--report", help="The report instead of a model: charges every trial in it.")] = False,
    cohort: Cohort = None,
    fold: Fold = 1,
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
    with user_errors(), _joined():
        from assay.errors import UserError
        from assay.privacy.ledger.experiments import Processing
        from assay.report.page import render
        from assay.study.export import NOT_COVERED, export_model, export_report, report_of
        from assay.study.release import charge
        from assay.study.store import Store

        folder = Path(to).expanduser().resolve()
        if report == (recipe is not None):
            raise UserError("give either --recipe and its name, or --report")
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"--to {folder} is not empty; name a new folder")
        how, asked = f"exported to {folder}", (budget, delta, reason)
        processing = Processing(purpose=purpose, legal_basis=legal_basis, until=until)
        if recipe is not None:
            store, dataset, chosen, others = _trained(results, recipe, cohort, fold, repeat)
            kept = _ledger_of(dataset, results, ledger)
            charge(
                kept, [chosen], how=how, processing=processing, budget=asked,
                looked_at=_looked_at(kept, store, chosen, best=best, declared=declared), plan=others if declared else None,
            )  # fmt: skip
            accounts = [kept.account()]
            written = export_model(store, chosen, folder, dataset, accounts[0])
        else:
            made = report_of(Store(results), render)
            ledgers = [_ledger_of(part.dataset, results, ledger) for part in made.parts]
            # All of them let it pass, or none is charged.
            for rehearsed, (kept, part) in product((True, False), zip(ledgers, made.parts, strict=True)):
                plan = part.included if declared else None
                charge(
                    kept, part.included, how=how, processing=processing, budget=asked, plan=plan, rehearsed=rehearsed
                )
            accounts = [kept.account() for kept in ledgers]
            written = export_report(made, folder, accounts)
        for account in accounts:
            print_account(account)
        console.print(f"not covered: {NOT_COVERED}", style="yellow", highlight=False)
        for path in written:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command()
def erase(
    place: Place = None,
    record: Annotated[int | None, typer.Option(min=0, help="Position of a record in the data set, from 0.")] = None,
    patient: Annotated[str | None, typer.Option(help="ID of a patient, as the data set's groups name it.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Delete models and results whose last day has passed.")] = False,
    reservations: Annotated[bool, typer.Option("--reservations", help="Give back what is reserved for trials of which nothing has left; one that still runs is charged when it is released.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --record or --patient: delete what is listed.")] = False,
    data: Data = None,
) -> None:  # fmt: skip
    """List every model and result that a patient's records went into, and with --delete, delete them.

    What was released cannot be unlearnt or called back from here: it is listed, with where it went. Charges stay in the
    ledger whatever is deleted, since what was spent is never given back.
    """
    with user_errors(), _joined():
        from assay.errors import UserError
        from assay.study.erasure import erase_trials

        if sum((record is not None, patient is not None, expired, reservations)) != 1:
            raise UserError("give one of --record, --patient, --expired and --reservations")
        ledgers = _ledgers(place, data)
        if expired or reservations:
            for ledger in ledgers:
                _expire(ledger) if expired else _drop(ledger)
            return
        (ledger,) = _one(ledgers)
        rows = ledger.positions_of(patient).tolist() if patient is not None else [record or 0]
        asked = f"record {record}" if patient is None else f"{len(rows)} records of a patient"
        traces = ledger.traces(rows)
        if delete:
            erase_trials(ledger, [one.experiment for one in traces if not one.experiment.erased], asked=asked)
        print_traces(ledger, traces, asked, deleted=delete)


@contextmanager
def _joined() -> Iterator[None]:
    """Within a cluster that is named, so that its one actor writes; else nothing is started."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    from assay.cluster.session import ray_session

    with ray_session(None, workers=1):
        yield


def _reach(path: Path) -> "Ledger":
    from assay.privacy.ledger import Ledger

    if not os.environ.get("RAY_ADDRESS"):
        return Ledger(path)
    from assay.cluster.ledger import existing

    return existing(path)


def _ledgers(place: str | None, data: str | None) -> list["Ledger"]:
    """The ledgers at a place, of one data set if it is named."""
    from assay.errors import LedgerError
    from assay.study.ledgers import ledger_folder

    given = Path(place).expanduser().resolve() if place and "://" not in place else None
    if given is not None and given.is_file():
        files = [given]
    else:
        own = sorted(given.glob("*.sqlite")) if given is not None and given.is_dir() else []
        folder = ledger_folder(place or "results/any", None)
        files = own or (sorted(folder.glob("*.sqlite")) if folder else [])
    if not files:
        looked = given or ledger_folder(place or "results/any", None) or place
        raise LedgerError(
            f"there is no ledger in or beside {str(looked)!r}; a study makes one when it runs. Name the folder of its "
            "results, or of its ledgers"
        )
    found = [_reach(path) for path in files]
    named = [ledger for ledger in found if data in (None, ledger.name, ledger.path.stem)]
    if not named:
        raise LedgerError(f"no ledger of {data!r}; there are: {', '.join(ledger.path.stem for ledger in found)}")
    return named


def _one(ledgers: list["Ledger"]) -> list["Ledger"]:
    from assay.errors import LedgerError

    if len(ledgers) != 1:
        names = ", ".join(ledger.path.stem for ledger in ledgers)
        raise LedgerError(f"there are {len(ledgers)} ledgers: {names}; name one with --data")
    return ledgers


def _ledger_of(dataset: "Dataset", results: str, given: str | None) -> "Ledger":
    from assay.errors import LedgerError
    from assay.privacy.ledger import Ledger
    from assay.study.ledgers import ledger_folder, open_ledger

    folder = ledger_folder(results, given)
    if folder is None:
        raise LedgerError(f"results lie at {results}, and a ledger needs a folder: give --ledger or set ASSAY_LEDGER")
    made = Ledger.create
    if os.environ.get("RAY_ADDRESS"):
        from assay.cluster.ledger import through_actor as made
    return open_ledger(dataset, results=results, folder=folder, opening=made)


def _recipe(name: str | None) -> str:
    from assay.errors import UserError

    if name is None:
        raise UserError("give --recipe and the name of the recipe that was trained")
    return name


def _trained(
    results: str, recipe: str, cohort: str | None, fold: int, repeat: int
) -> tuple["Store", "Dataset", "Candidate", list["Candidate"]]:
    """The store, the data, the one trial, and all finished trials of its cohort."""
    from assay.study.finished import open_finished
    from assay.study.release import candidates
    from assay.study.store import Store

    store = Store(results)
    finished = open_finished(store, recipe=recipe, cohort=cohort, fold=fold, repeat=repeat)
    others = [one for one in candidates(store) if one.cohort == finished.cohort or one.offer.trial == finished.trial]
    (chosen,) = (one for one in others if one.offer.trial == finished.trial)
    return store, finished.dataset, chosen, others


def _looked_at(
    ledger: "Ledger", store: "Store", chosen: "Candidate", *, best: bool, declared: bool
) -> list["Candidate"]:
    """The others, if one model was chosen by their results."""
    from assay.errors import UserError
    from assay.study.choice import looked_at

    if best and declared:
        raise UserError("--best and --declared exclude each other: a plan is charged as a whole anyway")
    return looked_at(ledger, store, chosen) if best else []


def _expire(ledger: "Ledger") -> None:
    from assay.study.erasure import erase_trials

    gone = ledger.expired(_today())
    erase_trials(ledger, gone, asked="retention date passed")
    console.print(f"{ledger.name}: {len(gone)} experiments had expired and are deleted; charges stay", highlight=False)


def _drop(ledger: "Ledger") -> None:
    dropped = ledger.drop([one.trial for one in ledger.account().charges if one.state == "reserved"])
    console.print(f"{ledger.name}: {len(dropped)} reservations given back", highlight=False)
    for label in dropped:
        console.print(f"  {label}", markup=False, highlight=False)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


if __name__ == "__main__":
    app()
