"""Vary the settings of one recipe over a search space, by Ray Tune, to a report with the Pareto front.

python -m jobs.sweep adversarial --study quickstart
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.console import STUDIES, console, console_table, count_of, keeper_for, run, user_errors
from jobs.options import Address, Changes, CohortOption, LedgerFolder, LegalBasis, Purpose, Until, results_option

if TYPE_CHECKING:
    import pandas as pd

    from assay.cluster.sweep import Swept
    from assay.study.spec import Study
    from assay.study.sweep import Prepared

SPACES = sorted(path.stem for path in (Path(__file__).parents[1] / "tune_spaces").glob("[!_]*.py"))


def main(
    space: Annotated[str, typer.Argument(metavar="SPACE", help=f"One of tune_spaces: {', '.join(SPACES)}.")],
    study: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="The study whose recipe is varied.")] = "quickstart",
    recipe: Annotated[str | None, typer.Option(help="Recipe to vary; by default that of the space.")] = None,
    cohort: CohortOption = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds on which every point is run.")] = 1,
    samples: Annotated[int | None, typer.Option(min=1, help="Points to draw from a random space, or repeats of a grid; each space has a default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Simultaneous trials; one per CPU by default.")] = None,
    address: Address = None,
    results: Annotated[str | None, results_option("results/sweep-SPACE-STUDY")] = None,
    set_: Changes = None,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Sweep a search space. Finished points are never run again: you can kill the sweep at any time and start it again."""
    with user_errors():
        from assay.registry import unknown_name

        if space not in SPACES:
            raise unknown_name("space", space, SPACES)
        console.print("reading the study …", style="dim")
        from assay.cluster.session import lasting
        from assay.cluster.sweep import sweep_to_store
        from assay.report import sweep as report
        from assay.store.folder import Store
        from assay.study.reading import read_study
        from jobs.progress import ConsoleWatcher

        asked = read_study(study, tuple(set_ or ()), folder=STUDIES)
        ready = _prepared(space, asked, cohort=cohort, recipe=recipe, folds=folds, samples=samples)
        store = Store(lasting(results, default=f"results/sweep-{space}-{asked.name}"))
        keeper = keeper_for(
            ready.sweep.study, store.location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis,
            until=until,
        )  # fmt: skip
        swept = sweep_to_store(
            ready, store, workers=workers, address=address, watcher=ConsoleWatcher(console), keeper=keeper
        )
        found = report.results(ready.sweep, store, ready.radius)
        page = report.publish_sweep(ready.sweep, found, store, ready.dataset, ready.radius, choice=swept.choice)
        _print(ready, found, swept)
        console.print(f"report: {page}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if swept.failures or not swept.complete else 0)


def _prepared(
    space: str, asked: "Study", *, cohort: str | None, recipe: str | None, folds: int, samples: int | None
) -> "Prepared":
    """Returns the sweep of a recipe of the study, with the settings of the space unless the user gave others."""
    from assay.study.sweep import prepare_sweep

    chosen = importlib.import_module(f"tune_spaces.{space}")
    return prepare_sweep(
        asked,
        name=space,
        space=chosen.space,
        cohort=cohort,
        recipe=recipe or chosen.RECIPE,
        asked=chosen.ASKED,
        tested=chosen.TESTED,
        folds=folds,
        samples=samples or chosen.SAMPLES,
    )


def told_of(swept: "Swept", tested: str) -> str:
    """Returns a line with the number of trials and the time of a sweep.

    Args:
        swept: the outcome.
        tested: the records on which its trials were evaluated, ``test`` or ``validation``.

    Returns:
        The line.
    """
    ran = f"{swept.ran} of {count_of(len(swept.trials), 'trial')} run in {swept.seconds:.0f} s"
    alone = f"; the trials alone took {swept.trial_seconds:.0f} s, added up" if swept.ran else ""
    return f"{ran} on {count_of(swept.workers, 'worker')}{alone}; asked of the {tested} records"


def _print(ready: "Prepared", found: "pd.DataFrame", swept: "Swept") -> None:
    """Prints the Pareto front, the time of the sweep, and the ε cost of choosing by it."""
    from assay.report.sweep import goals, rests_on
    from assay.report.words import shown
    from assay.threats import radius_text

    wanted = goals(found)
    best = found[found["pareto"]]
    rows = [
        (
            str(row["recipe"]),
            *(
                f"{shown(row[goal.key], 'percent' if goal.percent else 'number')}\n{rests_on(row, goal)}".strip()
                for goal in wanted
            ),
            shown(row["seconds"], "seconds"),
        )
        for row in best.to_dict("records")
    ]
    heads = [
        f"{goal.title}, ε = {radius_text(ready.radius)}" if goal.key == "robust" else goal.title for goal in wanted
    ]
    console.print(console_table(["Pareto front", *heads, "training"], rows))
    console.print(told_of(swept, ready.sweep.study.split.tested))
    for label, error in swept.failures.items():
        console.print(f"failed: {label}: {error.splitlines()[0]}", style="red", markup=False)
    if swept.choice:
        console.print(swept.choice, style="yellow", highlight=False)


if __name__ == "__main__":
    run(main)
