"""Evaluate a model that was trained elsewhere, with the same evaluations and report as a study.

python -m jobs.evaluate --model package.module:factory --weights model.safetensors --data file.npz
python -m jobs.evaluate --model model.onnx --data file.npz
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from jobs.console import console, evaluating, print_reading, print_scorecards, run, user_errors
from jobs.options import WAIT_FOR_WORKERS, Address, GpusPerTrial, WaitForWorkers, results_option

if TYPE_CHECKING:
    from assay.results import TrialRecord


def main(
    model: Annotated[str, typer.Option(metavar="PACKAGE.MODULE:FACTORY|FILE", help="Callable that returns the torch module or a fitted scikit-learn classifier, importable from here; or an .onnx or .skops file.")],
    data: Annotated[str, typer.Option(help=".npz or .parquet with x, y and optionally groups, feature_names, class_names; or a .yaml with the settings of any data set, as in a study file: {name: table, path: ward.csv, …}.")],
    weights: Annotated[str | None, typer.Option(help="Weights as .safetensors; pickled checkpoints are refused. By default the model contains its weights.")] = None,
    output: Annotated[str | None, typer.Option(metavar="logits|probabilities", help="What the model returns. For two classes it may be one number. By default logits, or one probability after a final sigmoid layer.")] = None,
    threat: Annotated[str, typer.Option(help="linf or l2, with radii in units of the data: linf:0.05,0.1 or linf:8/255")] = "linf",
    low: Annotated[float | None, typer.Option(help="Least valid input; taken from the data by default.")] = None,
    high: Annotated[float | None, typer.Option(help="Greatest valid input; taken from the data by default.")] = None,
    modality: Annotated[str, typer.Option(help="What a record is: tabular, image (channels, height, width) or signal (channels, samples).")] = "tabular",
    immutable: Annotated[str, typer.Option(metavar="NAMES", help="Features that cannot change, such as age,sex: attacks and certificates keep them fixed.")] = "",
    attacks: Annotated[str, typer.Option(metavar="NAMES", help="Additional attacks, such as apgd,square,fab.")] = "",
    records: Annotated[int | None, typer.Option(min=10, help="Size of a stratified sample of records to attack and certify; all by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers with one thread each, which share the records under attack. Default: 1, in this process without Ray; on a cluster one per CPU.")] = None,
    gpus: GpusPerTrial = None,
    wait: WaitForWorkers = WAIT_FOR_WORKERS,
    address: Address = None,
    results: Annotated[str | None, results_option("results/evaluate-WEIGHTS")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random starts and bootstrap draws.")] = 0,
) -> None:  # fmt: skip
    """Evaluate a model on every record of a file: accuracy, robustness with its checks, explanations."""
    with user_errors():
        console.print("loading model and data …", style="dim")
        from assay.cluster.executor import RayExecutor
        from assay.cluster.session import describe_environment, lasting
        from assay.executors import LocalExecutor, Watched
        from assay.report.page import publish_report
        from assay.store.folder import Store
        from assay.study.external import evaluate_given, given_study
        from assay.study.plan import load_datasets

        settings = _settings(data, low=low, high=high, modality=modality)
        name = f"evaluate-{Path(weights or model.partition(':')[0]).stem}"
        study = given_study(
            name, model=model, data=settings, threat=threat, seed=seed, immutable=_names(immutable),
            attacks=_names(attacks), records=records, output=output,
        )  # fmt: skip
        store = Store(lasting(results, default=f"results/{name}"))
        datasets = load_datasets(study)
        print_reading(console, "data", datasets["given"])
        joins = bool(address or os.environ.get("RAY_ADDRESS"))
        with RayExecutor(address=address, workers=workers, gpus=gpus, wait=wait) as pool:
            executor = Watched(pool if joins or (workers or 1) > 1 else LocalExecutor(), evaluating)
            record = evaluate_given(
                study, datasets["given"], store, weights, environment=describe_environment(), executor=executor
            )
        report = publish_report(study, datasets, store)
        print_scorecards(study, store)
        console.print(f"{len(record.measurements)} measurements in {record.seconds:.1f} s")
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
        _tell_failures(record, {evaluation.name for evaluation in study.cohorts["given"].evaluations})


def _tell_failures(record: "TrialRecord", evaluations: set[str]) -> None:
    """Prints the evaluations that failed as a whole, and exits with code 1 if there are any."""
    failures = [row for row in record.measurements if row.status == "failed" and row.name in evaluations]
    for row in failures:
        console.print(
            f"failed: {row.name}: {row.warnings[0].splitlines()[0]}", style="red", markup=False, soft_wrap=True
        )
    if failures:
        console.print("all other figures are in the report; a traceback stands beside each failure")
        raise typer.Exit(1)


def _settings(data: str, **about: Any) -> dict[str, Any]:
    """Returns the settings of a data set: from a YAML file, or from a file of arrays and the options that describe it."""
    from assay.errors import SpecError
    from assay.study.reading import settings_in

    path = Path(data).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        return {"path": str(path.resolve()), **about}
    try:
        read = settings_in(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"--data {data!r} cannot be read as YAML: {error}", setting="--data", given=data) from None
    if not isinstance(read, dict) or "name" not in read:
        raise SpecError(
            f"--data {data!r} holds no settings of a data set; write name: table, path: ward.csv and so on",
            setting="--data",
            given=data,
            allowed="a mapping with name",
        )
    if about["low"] is not None or about["high"] is not None or about["modality"] != "tabular":
        raise SpecError(
            "--low, --high and --modality are for files of arrays; write them into the settings instead",
            setting="--data",
            given=data,
        )
    return read


def _names(listed: str) -> tuple[str, ...]:
    """Returns the names in a comma-separated list."""
    return tuple(name.strip() for name in listed.split(",") if name.strip())


if __name__ == "__main__":
    run(main)
