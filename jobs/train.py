"""Train one recipe of a study over several Ray Train workers, and measure it.

python -m jobs.train quickstart --recipe pgd --workers 2
"""

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
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers that share every batch.")] = 2,
    fold: FoldOption = 1,
    address: Address = None,
    results: Annotated[str | None, results_option("results/STUDY-train")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Use one GPU per worker, with NCCL.")] = False,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Epochs between checkpoints.")] = 5,
    set_: Changes = None,
    ledger: LedgerFolder = None,
    purpose: Purpose = "",
    legal_basis: LegalBasis = "",
    until: Until = "",
) -> None:
    """Train with the same loop as a study, with batches spread over workers. Survives killed workers; resumes.

    The records under attack are spread over the workers too.
    """
    with user_errors():
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
        console.print(f"{trial.label}: {count_of(workers, 'worker')}", highlight=False)
        record = run_distributed(
            trial, asked, dataset, store, workers=workers, address=address, watch=_trained, evaluating=evaluating,
            gpu=gpu, checkpoint_every=checkpoint_every, keeper=keeper,
        )  # fmt: skip
        report = publish_report(asked, datasets, store)
        print_scorecards(asked, store)
        if record.failed:
            console.print(record.error, style="red", markup=False)
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if record.failed else 0)


def _trained(epoch: int, epochs: int, loss: float) -> None:
    said = f"epoch {epoch} of {epochs}, loss {loss:.4f}"
    if not print_progress_line(epoch, epochs, said):
        console.print(said)


if __name__ == "__main__":
    run(main)
