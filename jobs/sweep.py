"""Vary the settings of one recipe over a search space, to a report with the Pareto front.

python -m jobs.sweep adversarial --study quickstart
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import STUDIES, console, console_table, count_of, keeper_for, run, user_errors
from jobs.options import (
    WAIT_FOR_WORKERS,
    Address,
    Changes,
    CohortOption,
    GpusPerTrial,
    LedgerFolder,
    LegalBasis,
    Purpose,
    Until,
    WaitForWorkers,
    one_of,
    results_option,
)
from jobs.sweep_plan import print_plan

if TYPE_CHECKING:
    import pandas as pd

    from assay.release.keeper import Keeper
    from assay.study.spec import Study
    from assay.study.sweep_judge import ChosenPoint
    from assay.study.sweep_prepare import PreparedSweep
    from assay.study.sweep_run import SweepSummary

SPACES = sorted(path.stem for path in (Path(__file__).parents[1] / "tune_spaces").glob("[!_]*.py"))


def main(
    space: Annotated[str, typer.Argument(metavar="SPACE", callback=one_of("space", SPACES), help=f"One of tune_spaces: {', '.join(SPACES)}.")],
    study: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="The study whose recipe is varied.")] = "quickstart",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be searched, how many epochs that takes and what each trial would spend; run nothing.")] = False,
    recipe: Annotated[str | None, typer.Option(help="Recipe to vary; by default that of the space.")] = None,
    cohort: CohortOption = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds on which every point is run.")] = 1,
    search: Annotated[str | None, typer.Option(help="grid: every point of a grid. random: independent draws. optuna: draws that learn from outcomes, by TPE for one goal and NSGA-II for several. By default what the space says, else grid where it is one, else random.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Points that random and optuna draw; each space has a default.")] = None,
    goals: Annotated[str | None, typer.Option(metavar="GOAL,GOAL", help="Of accuracy, robust, epsilon, cost; the first one chooses. By default those of the space.")] = None,
    scheduler: Annotated[str, typer.Option(help="asha stops points early by their validation records: after 1, 3, 9 … epochs one in three goes on (successive halving). none trains every point to the end.")] = "none",
    eta: Annotated[int, typer.Option(min=2, help="Of asha: one in so many points goes on.")] = 3,
    ahead: Annotated[int | None, typer.Option(min=1, help="Of optuna and asha: points that may be under way while the next is decided. More keep more workers busy; fewer learn sooner. By default 8, or twice the number of workers where that is more. Which points there are depends on it: it is stored, and a sweep that goes on keeps it.")] = None,
    judge: Annotated[bool, typer.Option("--judge/--no-judge", help="Measure the point that the validation records chose, once, on the test records; only where the space is evaluated on validation records.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Simultaneous trials; one per CPU by default.")] = None,
    gpus: GpusPerTrial = None,
    wait: WaitForWorkers = WAIT_FOR_WORKERS,
    address: Address = None,
    results: Annotated[str | None, results_option("results/sweep-SPACE-STUDY")] = None,
    set_: Changes = None,
    wandb: Annotated[bool, typer.Option("--wandb", help="Mirror trials to Weights & Biases, grouped by sweep (offline unless WANDB_MODE is set).")] = False,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Sweep a search space. Finished points are never run again: you can kill the sweep at any time and start it again."""
    with user_errors():
        console.print("reading the study …", style="dim")
        from assay.cluster.resources import gpus_for
        from assay.cluster.session import lasting
        from assay.study.reading import read_study

        asked = read_study(study, tuple(set_ or ()), folder=STUDIES)
        ready = _prepared(
            space, asked, cohort=cohort, recipe=recipe, folds=folds, samples=samples, search=search, goals=goals,
            scheduler=scheduler, eta=eta, ahead=ahead,
        )  # fmt: skip
        location = lasting(results, default=f"results/sweep-{space}-{asked.name}")
        if dry_run:
            print_plan(ready, location, tuned=asked.tuned is not None)
            return
        keeper = keeper_for(
            ready.sweep.study, location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        pool = {"address": address, "workers": workers, "gpus": gpus_for([ready.device], gpus), "wait": wait}
        swept = _run(ready, location, pool, keeper, judge=judge, wandb=wandb)
    raise typer.Exit(1 if swept.failures or not swept.complete else 0)


def _prepared(
    space: str, asked: "Study", *, recipe: str | None, search: str | None, goals: str | None, **settings: Any
) -> "PreparedSweep":
    """Returns the sweep of a recipe of the study, with the settings of the space unless the user gave others."""
    from assay.study.sweep_prepare import prepare_sweep

    chosen = importlib.import_module(f"tune_spaces.{space}")
    wanted = tuple(chosen.GOALS) if goals is None else tuple(goal.strip() for goal in goals.split(","))
    return prepare_sweep(
        asked,
        name=space,
        space=chosen.space,
        recipe=recipe or chosen.RECIPE,
        asked=chosen.ASKED,
        tested=chosen.TESTED,
        default_samples=chosen.SAMPLES,
        search=search or getattr(chosen, "SEARCH", None),
        goals=wanted,
        **settings,
    )


def _run(
    ready: "PreparedSweep",
    location: str,
    pool: dict[str, Any],
    keeper: "Keeper | None",
    *,
    judge: bool,
    wandb: bool,
) -> "SweepSummary":
    """Runs what is missing, judges what was chosen, and writes and prints the report."""
    from assay.cluster.executor import RayExecutor
    from assay.cluster.ledger_actor import opening, through_actor
    from assay.cluster.session import describe_environment
    from assay.release.choice import choice_of_best
    from assay.report.sweep import publish_sweep
    from assay.report.sweep_table import results
    from assay.store.folder import Store
    from assay.study.sweep_judge import judge_chosen
    from assay.study.sweep_run import run_sweep
    from assay.tracking import mirror
    from jobs.progress import ConsoleWatcher

    store, here = Store(location), describe_environment()
    with (
        RayExecutor(cpus=ready.sweep.study.threads, **pool) as executor,
        mirror(ready.sweep.study, enabled=wandb, warn=console.print, sweep=ready.sweep.name) as show,
    ):
        if keeper is not None and opening(pool["address"]) is through_actor:
            # The actor of the ledger lives on the cluster, which is joined here also where nothing is left to run.
            assert executor.workers
        swept = run_sweep(
            ready, store, executor, watcher=ConsoleWatcher(console), observer=keeper, mirror=show, environment=here
        )
        may_judge = judge and swept.complete and ready.sweep.study.split.tested == "validation"
        judged = judge_chosen(ready, store, executor, observer=keeper, environment=here) if may_judge else []
        choice = choice_of_best(store, ready.dataset, keeper.trainings(ready.dataset) if keeper else ()).text
    table = results(ready.sweep, store, ready.radius)
    page = publish_sweep(ready, table, store, choice=choice, judged=judged)
    _print(ready, table, swept, judged, choice)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return swept


def told_of(swept: "SweepSummary", tested: str) -> str:
    """Returns a line with the number of trials and the time of a sweep.

    Args:
        swept: the outcome.
        tested: the records on which its trials were evaluated, ``test`` or ``validation``.

    Returns:
        The line.
    """
    ran = f"{swept.ran} of {count_of(swept.trials, 'trial')} run in {swept.seconds:.0f} s"
    if swept.stopped:
        ran = f"{count_of(swept.ran, 'step')} of {count_of(swept.trials, 'trial')} run in {swept.seconds:.0f} s, {swept.stopped} stopped early"
    alone = f"; the trials alone took {swept.trial_seconds:.0f} s, added up" if swept.ran else ""
    return f"{ran} on {count_of(swept.workers, 'worker')}{alone}; asked of the {tested} records"


def _print(
    ready: "PreparedSweep", table: "pd.DataFrame", swept: "SweepSummary", judged: "list[ChosenPoint]", choice: str
) -> None:
    """Prints the Pareto front, the time of the sweep, what was judged, and the ε cost of choosing."""
    from assay.report.sweep_table import goals, pareto, rests_on
    from assay.report.words import shown
    from assay.threats import radius_text

    wanted = goals(table, ready.goals)
    best, costs = table[pareto(table, wanted)] if wanted else table[:0], "cost" in [goal.key for goal in wanted]
    rows = [
        (
            str(row["recipe"]),
            *(
                f"{shown(row[goal.key], 'percent' if goal.percent else 'number')}\n{rests_on(row, goal)}".strip()
                for goal in wanted
            ),
            *([] if costs else [shown(row["cost"], "seconds")]),
        )
        for row in best.to_dict("records")
    ]
    heads = [
        f"{goal.title}, ε = {radius_text(ready.radius)}" if goal.key == "robust" else goal.title for goal in wanted
    ]
    console.print(console_table(["Pareto front", *heads, *([] if costs else ["training"])], rows))
    console.print(told_of(swept, ready.sweep.study.split.tested))
    for one in judged:
        kind = "percent" if one.goal.percent else "number"
        console.print(
            f"fold {one.fold + 1}: chosen {one.recipe}: {one.goal.title} {shown(one.chosen_by, kind)} on validation "
            f"records, as the best of many; {shown(one.judged, kind)} on test records",
            highlight=False,
        )
    for label, error in swept.failures.items():
        console.print(f"failed: {label}: {error.splitlines()[0]}", style="red", markup=False)
    if choice:
        console.print(choice, style="yellow", highlight=False)


if __name__ == "__main__":
    run(main)
