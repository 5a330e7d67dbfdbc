"""Run a study: every recipe of every cohort, over all folds, to a report.

python -m jobs.study quickstart
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jobs.console import (
    STUDIES,
    console,
    console_table,
    count_of,
    keeper_for,
    print_reading,
    print_scorecards,
    run,
    user_errors,
)
from jobs.options import (
    WAIT_FOR_WORKERS,
    Address,
    Changes,
    GpusPerTrial,
    LedgerFolder,
    LegalBasis,
    Purpose,
    StudyName,
    Until,
    WaitForWorkers,
    results_option,
)
from jobs.verdicts import as_json, decided_of, print_verdicts, refuse_nothing_required

if TYPE_CHECKING:
    from assay.cluster.executor import RayExecutor
    from assay.data.base import Dataset
    from assay.errors import DataError
    from assay.release.keeper import Keeper
    from assay.report.decisions import Decisions
    from assay.study.plan import Forecast
    from assay.study.run import RunSummary
    from assay.study.spec import Study

STARTED = time.perf_counter()


def main(
    study: StudyName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials, the ε that each would spend, and what tuning costs; run nothing.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per CPU by default.")] = None,
    gpus: GpusPerTrial = None,
    wait: WaitForWorkers = WAIT_FOR_WORKERS,
    address: Address = None,
    results: Annotated[str | None, results_option("results/STUDY")] = None,
    set_: Changes = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished trials again.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the verdicts on the requirements as JSON, and nothing else on standard output.")] = False,
    require: Annotated[bool, typer.Option("--require", help="End with exit code 3 if a candidate misses a requirement, or no candidate is shown to meet all.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Mirror trials to Weights & Biases (offline unless WANDB_MODE is set).")] = False,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Run a study. Finished trials are never run again: you can kill the job at any time and start it again."""
    # With --json, standard output contains only the verdicts.
    output = Console(stderr=True) if json_ else console
    with user_errors(output):
        output.print("reading the study …", style="dim")
        from assay.study.reading import read_study

        asked = read_study(study, tuple(set_ or ()), folder=STUDIES)
        if json_ or require:
            refuse_nothing_required(asked, "--json" if json_ else "--require", dry_run=dry_run)
        if dry_run:
            _print_plan(asked)
            _print_left(asked, results or f"results/{asked.name}")
            return
        from assay.cluster.executor import RayExecutor
        from assay.cluster.resources import gpus_for
        from assay.cluster.session import lasting

        reserved = gpus_for((cohort.device for cohort in asked.cohorts.values()), gpus)
        pool = RayExecutor(address=address, workers=workers, cpus=asked.threads, gpus=reserved, wait=wait)
        location = lasting(results, default=f"results/{asked.name}")
        keeper = keeper_for(
            asked, location, address, output, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        failures, decided = _run(asked, location, pool, keeper, output, force=force, wandb=wandb)
        if json_:
            print(json.dumps(as_json(asked, location, decided), indent=2, ensure_ascii=False))
    missed = require and not all(decisions.satisfied for decisions in decided)
    raise typer.Exit(1 if failures else 3 if missed else 0)


def _print_plan(study: "Study") -> None:
    from assay.errors import DataError
    from assay.study.plan import evaluation_costs, forecast_study, load_unsized

    loaded = load_unsized(study)
    for cohort, data in loaded.items():
        if isinstance(data, DataError):
            console.print(f"{cohort}: {data}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        else:
            print_reading(console, cohort, data)
    forecasts = list(forecast_study(study, loaded))
    rows = [
        (f.cohort, f.recipe, str(f.trials), "unknown" if f.records is None else f"≈ {f.records}", escape(f.spends))
        for f in forecasts
    ]
    console.print(console_table(("cohort", "recipe", "trials", "training records", "each trial spends"), rows))
    _print_tuning(study, forecasts)
    for cohort, cost in evaluation_costs(study, loaded):
        console.print(f"{cohort}, {cost}", highlight=False)
    _print_showable(study, loaded)
    console.print(f"{count_of(sum(int(row[2]) for row in rows), 'trial')}; nothing was run")


def _print_tuning(study: "Study", forecasts: "Sequence[Forecast]") -> None:
    """Prints how many points each recipe tries, and what that costs."""
    from assay.study.tuning_costs import tuning_costs

    costs = tuning_costs(study, forecasts)
    if not costs:
        return
    heads = ("cohort", "recipe", "points in each trial", "epochs in each trial", "as the recipe stands")
    rows = [
        (one.cohort, one.recipe, str(one.points), f"{one.epochs} ({one.factor:.3g} times)", str(one.own_epochs))
        for one in costs
    ]
    console.print(console_table(heads, rows))
    trainings, trials = sum(one.trainings for one in costs), sum(one.trials for one in costs)
    console.print(
        f"tuned: {count_of(trainings, 'training')} in {count_of(trials, 'trial')}; each trial keeps the best of its "
        "points by the validation records",
        highlight=False,
    )


def _print_showable(study: "Study", loaded: "Mapping[str, Dataset | DataError]") -> None:
    """Prints from which value on each requirement could be shown to be met, with this number of folds and candidates."""
    from assay.report.foresight import showable

    rows = [(item.cohort, item.requirement.text, item.text) for item in showable(study, loaded)]
    if rows:
        heads = ("cohort", "requirement", "could be shown, if folds or seeds differ by chance alone")
        console.print(console_table(heads, rows))


def _print_left(study: "Study", location: str) -> None:
    """Prints what existing results lack of the study."""
    from assay.errors import DataError
    from assay.store.folder import Store
    from assay.study.plan import load_datasets, plan
    from assay.study.runner import count_remaining

    store = Store(location)
    try:
        datasets = load_datasets(study) if store.models() else {}
    except DataError:
        return
    if not datasets:
        return
    left = count_remaining(store, plan(study, datasets))
    console.print(
        f"{location}: {left.untrained} of {count_of(left.models, 'model')} to train, {left.unanswered} of "
        f"{count_of(left.questions, 'question')} to ask",
        highlight=False,
        soft_wrap=True,
    )


def _run(
    study: "Study",
    location: str,
    pool: "RayExecutor",
    keeper: "Keeper | None",
    said: Console,
    *,
    force: bool,
    wandb: bool,
) -> "tuple[int, list[Decisions]]":
    """Runs what is missing; returns the number of failed trials, and the verdicts on the requirements."""
    from assay.cluster.session import describe_environment
    from assay.report.page import Publisher
    from assay.store.folder import Store
    from assay.study.run import run_study
    from assay.tracking import mirror
    from jobs.progress import ConsoleWatcher

    store = Store(location)
    publisher = Publisher(study, store)
    with (
        pool as executor,
        mirror(study, enabled=wandb, warn=said.print) as show,
    ):
        summary = run_study(
            study,
            store,
            executor,
            watcher=ConsoleWatcher(said),
            publish=publisher.publish,
            mirror=show,
            force=force,
            environment=describe_environment(),
            started=STARTED,
            keeper=keeper,
        )
    decided = decided_of(study, store)
    print_verdicts(decided, said)
    print_scorecards(study, store, said)
    _print_summary(summary, publisher.path, said)
    return len(summary.failures), decided


def _print_summary(summary: "RunSummary", page: str, said: Console) -> None:
    before = summary.planned - summary.ran
    told = f"{summary.ran} of {count_of(summary.planned, 'trial')} run in {summary.seconds:.0f} s"
    if summary.ran:
        told += (
            f" on {count_of(summary.workers, 'worker')}; the trials alone took {summary.trial_seconds:.0f} s, added up"
        )
    said.print(told + (f"; {before} finished before" if before else ""))
    for label, error in summary.failures.items():
        said.print(f"failed: {label}: {error.splitlines()[0]}", style="red", markup=False)
    verdict = f"{count_of(len(summary.failures), 'trial')} failed; run again to retry. " if summary.failures else ""
    said.print(f"{verdict}report: {page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run(main)
