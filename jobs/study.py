"""Run a study: every recipe of every cohort, over all folds, to a report.

python -m jobs.study quickstart
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobs.console import (
    STUDIES,
    console,
    counted,
    keeper_for,
    print_reading,
    print_scorecards,
    run,
    table,
    user_errors,
)
from jobs.options import Address, Changes, LedgerFolder, LegalBasis, Purpose, StudyName, Until, results_option

if TYPE_CHECKING:
    from assay.release.keeper import Keeper
    from assay.study.run import Summary
    from assay.study.spec import Study

STARTED = time.perf_counter()


def main(
    study: StudyName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials and the ε each would spend; run nothing.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per CPU by default.")] = None,
    address: Address = None,
    results: Annotated[str | None, results_option("results/STUDY")] = None,
    set_: Changes = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished trials again.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Mirror trials to Weights & Biases (offline unless WANDB_MODE says otherwise).")] = False,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Run a study. Finished trials are never run again; kill the job at any moment and start it again."""
    with user_errors():
        console.print("reading the study …", style="dim")
        from assay.study.spec import read_study

        asked = read_study(study, tuple(set_ or ()), folder=STUDIES)
        if dry_run:
            _print_plan(asked)
            _print_left(asked, results or f"results/{asked.name}")
            return
        from assay.cluster.session import lasting

        location = lasting(results, default=f"results/{asked.name}")
        keeper = keeper_for(
            asked, location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        failures = _run(asked, location, workers, address, keeper, force=force, wandb=wandb)
    raise typer.Exit(1 if failures else 0)


def _print_plan(study: "Study") -> None:
    from assay.errors import DataError
    from assay.study.plan import evaluation_costs, forecast, load_unsized

    loaded = load_unsized(study)
    for cohort, data in loaded.items():
        if isinstance(data, DataError):
            console.print(f"{cohort}: {data}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        else:
            print_reading(console, cohort, data)
    rows = [
        (f.cohort, f.recipe, str(f.trials), "unknown" if f.records is None else f"≈ {f.records}", escape(f.spends))
        for f in forecast(study, loaded)
    ]
    console.print(table(("cohort", "recipe", "trials", "training records", "each trial spends"), rows))
    for cohort, said in evaluation_costs(study, loaded):
        console.print(f"{cohort}, {said}", highlight=False)
    console.print(f"{counted(sum(int(row[2]) for row in rows), 'trial')}; nothing was run")


def _print_left(study: "Study", location: str) -> None:
    """What results that are there already lack of the study."""
    from assay.errors import DataError
    from assay.store.folder import Store
    from assay.study.plan import load_datasets, plan
    from assay.study.runner import count_left

    store = Store(location)
    try:
        datasets = load_datasets(study) if store.models() else {}
    except DataError:
        return
    if not datasets:
        return
    left = count_left(store, plan(study, datasets))
    console.print(
        f"{location}: {left.untrained} of {counted(left.models, 'model')} to train, {left.unanswered} of "
        f"{counted(left.questions, 'question')} to ask",
        highlight=False,
        soft_wrap=True,
    )


def _run(
    study: "Study",
    location: str,
    workers: int | None,
    address: str | None,
    keeper: "Keeper | None",
    *,
    force: bool,
    wandb: bool,
) -> int:
    from assay.cluster.executor import RayExecutor
    from assay.cluster.session import environment
    from assay.report.page import Publisher
    from assay.store.folder import Store
    from assay.study.run import run_study
    from assay.tracking import mirror
    from jobs.progress import ConsoleWatcher

    store = Store(location)
    publisher = Publisher(study, store)
    with (
        RayExecutor(address=address, workers=workers, cpus=study.threads) as executor,
        mirror(study, enabled=wandb, warn=console.print) as show,
    ):
        summary = run_study(
            study,
            store,
            executor,
            watcher=ConsoleWatcher(console),
            publish=publisher.publish,
            mirror=show,
            force=force,
            environment=environment(),
            started=STARTED,
            keeper=keeper,
        )
    print_scorecards(study, store)
    _print_summary(summary, publisher.path)
    return len(summary.failures)


def _print_summary(summary: "Summary", page: str) -> None:
    before = summary.planned - summary.ran
    told = f"{summary.ran} of {counted(summary.planned, 'trial')} run in {summary.seconds:.0f} s"
    if summary.ran:
        told += (
            f" on {counted(summary.workers, 'worker')}; the trials alone took {summary.trial_seconds:.0f} s, added up"
        )
    console.print(told + (f"; {before} finished before" if before else ""))
    for label, error in summary.failures.items():
        console.print(f"failed: {label}: {error.splitlines()[0]}", style="red", markup=False)
    verdict = f"{counted(len(summary.failures), 'trial')} failed; run again to retry. " if summary.failures else ""
    console.print(f"{verdict}report: {page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run(main)
