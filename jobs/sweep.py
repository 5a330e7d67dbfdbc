"""Vary the settings of one recipe over a search space, by Ray Tune, to a report with the Pareto front.

python -m jobs.sweep adversarial --study quickstart
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.console import (
    STUDIES,
    LedgerFolder,
    LegalBasis,
    Purpose,
    Until,
    console,
    keeper_for,
    run,
    table,
    user_errors,
)

if TYPE_CHECKING:
    import pandas as pd

    from assay.cluster.sweep import Swept
    from assay.study.sweep import Sweep

SPACES = sorted(path.stem for path in (Path(__file__).parents[1] / "tune_spaces").glob("[!_]*.py"))


def main(
    space: Annotated[str, typer.Argument(metavar="SPACE", help=f"One of tune_spaces: {', '.join(SPACES)}.")],
    study: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="The study whose recipe is varied.")] = "quickstart",
    recipe: Annotated[str | None, typer.Option(help="Recipe to vary; the space names its own.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Cohort; the first that has the recipe by default.")] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds that every point is run on.")] = 1,
    samples: Annotated[int | None, typer.Option(min=1, help="Points drawn from a random space, or repeats of a grid.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at once; one per CPU by default.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join; RAY_ADDRESS is followed too.")] = None,
    results: Annotated[str | None, typer.Option(help="Folder or URI; results/sweep-SPACE-STUDY by default.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the study. Repeatable.")] = None,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Sweep a search space. Finished points are never run again; kill the sweep at any moment and start it again."""
    with user_errors():
        from assay.errors import SpecError
        from assay.registry import unknown

        if space not in SPACES:
            raise SpecError(unknown("space", space, SPACES))
        console.print("reading the study …", style="dim")
        from assay.cluster.session import environment, lasting, ray_session
        from assay.cluster.sweep import run_sweep
        from assay.data.splits import keeps_official
        from assay.report.sweep import publish
        from assay.report.sweep import results as table_of
        from assay.study.choice import choice_of_best
        from assay.study.progress import ConsoleWatcher
        from assay.study.run import write_study
        from assay.study.spec import read_study
        from assay.study.store import Store
        from assay.study.sweep import FOLD, Sweep, base_of, reference_epsilon, study_of

        chosen = importlib.import_module(f"tune_spaces.{space}")
        asked = read_study(study, tuple(set_ or ()), folder=STUDIES)
        base = base_of(asked, cohort=cohort, recipe=recipe or chosen.RECIPE, asked=chosen.ASKED, tested=chosen.TESTED)
        if folds > base.split.folds:
            raise SpecError(f"--folds {folds}: the study has {base.split.folds}")
        (one,) = base.cohorts.values()
        dataset = one.load()
        if folds > 1 and keeps_official(dataset, base.split):
            raise SpecError(f"--folds {folds}: {dataset.name} keeps its official split, which is one fold")
        radius = reference_epsilon(one, dataset)
        points = chosen.space(radius)
        sweep = Sweep(space=space, study=base, keys=tuple(points))
        store = Store(lasting(results, default=f"results/sweep-{space}-{asked.name}"))
        keeper = keeper_for(
            base, store.location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        with store.locked(), ray_session(address, workers=workers, cpus=base.threads) as found:
            from ray import tune

            where = environment()
            swept = run_sweep(
                sweep,
                {**points, FOLD: tune.grid_search(list(range(folds)))},
                dataset,
                store,
                samples=samples or chosen.SAMPLES,
                workers=found,
                watcher=ConsoleWatcher(console),
                environment=where,
                keeper=keeper,
            )
            # An interrupted sweep hides nothing of what was found before.
            store.keep_only(swept.trials if swept.complete else {*swept.trials, *store.finished()})
            write_study(study_of(sweep, swept.points), store, swept.trials, where, fresh=swept.ran > 0)
            choice = choice_of_best(store, dataset, keeper.trainings(dataset) if keeper else ()).text
        page = publish(sweep, store, dataset, radius, choice=choice)
        _print(sweep, table_of(sweep, store, radius), swept, radius)
        if choice:
            console.print(choice, style="yellow", highlight=False)
        console.print(f"report: {page}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if swept.failures or not swept.complete else 0)


def _print(sweep: "Sweep", found: "pd.DataFrame", swept: "Swept", radius: float) -> None:
    """The Pareto front, and what the sweep took."""
    from assay.report.sweep import goals
    from assay.report.words import shown
    from assay.threats import radius_text

    wanted = goals(found)
    best = found[found["pareto"]]
    rows = [
        (
            str(row["recipe"]),
            *(shown(row[goal.key], "percent" if goal.percent else "number") for goal in wanted),
            shown(row["seconds"], "seconds"),
        )
        for row in best.to_dict("records")
    ]
    heads = [f"{goal.title}, ε = {radius_text(radius)}" if goal.key == "robust" else goal.title for goal in wanted]
    console.print(table(["Pareto front", *heads, "training"], rows))
    told = f"{swept.ran} of {len(swept.trials)} trials run in {swept.seconds:.0f} s on {swept.workers} workers"
    if swept.ran:
        told += f"; {swept.overhead:.2f} s a trial on top of the trials themselves"
    console.print(f"{told}; asked of the {sweep.study.split.tested} records")
    for label, error in swept.failures.items():
        console.print(f"failed: {label}: {error.splitlines()[0]}", style="red", markup=False)


if __name__ == "__main__":
    run(main)
