"""Train one recipe of a study over several Ray Train workers, and measure it.

python -m jobs.train quickstart --recipe pgd --workers 2
"""

import importlib
from typing import Annotated

import typer

from jobs.console import (
    STUDIES,
    console,
    count_of,
    evaluating,
    keeper_for,
    print_progress_line,
    print_reading,
    print_scorecards,
    run,
    user_errors,
)
from jobs.options import (
    Address,
    Changes,
    CohortOption,
    FoldOption,
    LedgerFolder,
    LegalBasis,
    Purpose,
    RecipeName,
    StudyName,
    Until,
    results_option,
)


def main(
    study: StudyName,
    recipe: RecipeName,
    cohort: CohortOption = None,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|MIN:MAX",
            callback=lambda text: _parsed("assay.cluster.scaling", "WorkerRange", text),
            help="Ray Train workers that share every batch; as many as fit of a range.",
        ),
    ] = "2",
    fold: FoldOption = 1,
    address: Address = None,
    results: Annotated[str | None, results_option("results/STUDY-train")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Use one GPU per worker, with NCCL.")] = False,
    checkpoint_every: Annotated[
        str,
        typer.Option(
            metavar="500steps|10min|5epochs",
            callback=lambda text: _parsed("assay.training.cadence", "Every", text),
            help="Distance of two checkpoints; a number counts epochs.",
        ),
    ] = "10min",
    set_: Changes = None,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:
    """Train with the same loop as a study, with batches spread over workers. Survives killed workers; resumes at the step.

    The records under attack are spread over the workers too.
    """
    with user_errors():
        from assay.cluster.scaling import WorkerRange
        from assay.training.cadence import Every

        asked_workers, cadence = WorkerRange.parse(workers), Every.parse(checkpoint_every)
        console.print("reading the study …", style="dim")
        from assay.cluster.session import lasting
        from assay.cluster.train import run_distributed
        from assay.data.splits import refuse_beyond_official
        from assay.report.page import publish_report
        from assay.store.folder import Store
        from assay.study.plan import load_datasets, plan
        from assay.study.reading import read_study
        from assay.study.spec import with_one_recipe

        asked = with_one_recipe(
            read_study(study, tuple(set_ or ()), folder=STUDIES), cohort=cohort, recipe=recipe, fold=fold
        )
        datasets = load_datasets(asked)
        (dataset,) = datasets.values()
        print_reading(console, dataset.name, dataset)
        refuse_beyond_official("--fold", fold, dataset, asked.split)
        trial = next(planned for planned in plan(asked, datasets) if (planned.fold, planned.repeat) == (fold - 1, 0))
        store = Store(lasting(results, default=f"results/{asked.name}-train"))
        keeper = keeper_for(
            asked, store.location, address, ledger=ledger, purpose=purpose, legal_basis=legal_basis, until=until
        )
        many = f"{asked_workers} workers" if asked_workers.is_elastic else count_of(asked_workers.most, "worker")
        console.print(f"{trial.label}: {many}", highlight=False)
        record = run_distributed(
            trial, asked, dataset, store, workers=asked_workers, address=address, watch=_trained, evaluating=evaluating,
            gpu=gpu, checkpoint_every=cadence, keeper=keeper,
        )  # fmt: skip
        report = publish_report(asked, datasets, store)
        print_scorecards(asked, store)
        if record.failed:
            console.print(record.error, style="red", markup=False)
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if record.failed else 0)


def _parsed(module: str, name: str, text: str) -> str:
    """Returns the text of an option if its class can parse it, so that a mistake is found before anything is read."""
    with user_errors():
        getattr(importlib.import_module(module), name).parse(text)
    return text


def _trained(epoch: float, epochs: float, loss: float) -> None:
    said = f"epoch {epoch:.4g} of {epochs:.4g}, loss {loss:.4f}"
    if not print_progress_line(int(epoch), int(epochs), said):
        console.print(said)


if __name__ == "__main__":
    run(main)
