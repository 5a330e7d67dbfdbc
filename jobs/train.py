"""Train one recipe of a study over several Ray Train workers, and measure it.

python -m jobs.train quickstart --recipe pgd --workers 2
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.console import (
    STUDIES,
    LedgerFolder,
    LegalBasis,
    Purpose,
    Until,
    console,
    evaluating,
    keeper_for,
    print_scorecards,
    run,
    user_errors,
)


def main(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study in jobs/studies, or the path of a YAML file.")],
    recipe: Annotated[str, typer.Option(help="Name of the recipe.")],
    cohort: Annotated[str | None, typer.Option(help="Cohort; the first that has the recipe by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers that share every batch.")] = 2,
    fold: Annotated[int, typer.Option(min=1, help="Fold to hold out, from 1.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join; RAY_ADDRESS is followed too.")] = None,
    results: Annotated[str | None, typer.Option(help="Folder or URI; results/STUDY-train by default.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU a worker, NCCL between them.")] = False,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Epochs between checkpoints.")] = 5,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the study. Repeatable.")] = None,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:  # fmt: skip
    """Train with the same loop as a study, its batches spread over workers. Survives killed workers; resumes.

    Attacks are spread over the workers too, by records.
    """
    with user_errors():
        console.print("reading the study …", style="dim")
        from assay.cluster.executor import RayExecutor
        from assay.cluster.session import environment, lasting, ray_session
        from assay.cluster.train import train_distributed
        from assay.data.splits import keeps_official
        from assay.errors import SpecError
        from assay.executors import Watched
        from assay.report.page import publish
        from assay.study.measure import run_trial
        from assay.study.plan import load_datasets, plan
        from assay.study.run import write_study
        from assay.study.spec import only, read_study
        from assay.study.store import Store

        asked = only(read_study(study, tuple(set_ or ()), folder=STUDIES), cohort=cohort, recipe=recipe, fold=fold)
        datasets = load_datasets(asked)
        (dataset,) = datasets.values()
        if fold > 1 and keeps_official(dataset, asked.split):
            raise SpecError(f"--fold {fold}: {dataset.name} keeps its official split, which is one fold")
        trial = next(trial for trial in plan(asked, datasets) if trial.fold == fold - 1 and trial.repeat == 0)
        location = lasting(results, default=str(Path("results", f"{asked.name}-train").resolve()))
        store = Store(location)
        keeper = keeper_for(
            asked, location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        with ray_session(address, workers=workers, cpus=trial.threads):
            if keeper:
                keeper.begin(trial, dataset)
            console.print(f"{trial.label}: {workers} workers", highlight=False)
            trained = train_distributed(
                trial,
                dataset,
                workers=workers,
                storage=f"{location}/ray_train",
                watch=lambda epoch, epochs, loss: console.print(f"epoch {epoch} of {epochs}, loss {loss:.4f}"),
                gpu=gpu,
                checkpoint_every=checkpoint_every,
            )
            with RayExecutor(workers=workers, cpus=trial.threads) as executor:
                record = run_trial(trial, Watched(executor, evaluating), dataset, trained=trained)
            if keeper:
                keeper.end(trial, record, dataset)
        with store.locked():
            store.keep_only([trial.id])
            write_study(asked, store, {trial.id: trial.label}, {**environment(), "ray_train_workers": workers})
            store.write(record)
        report = publish(asked, datasets, store)
        print_scorecards(asked, store)
        if record.failed:
            console.print(record.error, style="red", markup=False)
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if record.failed else 0)


if __name__ == "__main__":
    run(main)
