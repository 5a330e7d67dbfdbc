"""Run a benchmark of Assay and a peer in one process, and print their ratio as JSON; exit code 1 below the bar.

python -m jobs.benchmark study
"""

import importlib
import inspect
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.console import run, user_errors
from jobs.options import one_of

FOLDER = Path(__file__).parents[1] / "tests" / "benchmarks"
NAMES = sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.py"))


def main(
    name: Annotated[
        str, typer.Argument(metavar="NAME", callback=one_of("benchmark", NAMES), help=f"One of: {', '.join(NAMES)}.")
    ],
    quick: Annotated[
        bool, typer.Option(help="Less work: federated-round, explain-honest, serve, serve-attacks and sweep have it.")
    ] = False,
) -> None:
    """Measure Assay and the peer alternately in one run. Timings are benchmarks, never tests."""
    with user_errors(Console(stderr=True)):
        from assay.errors import UserError

        module = name.replace("-", "_")
        measure = importlib.import_module(f"tests.benchmarks.{module}").measure
        if quick and "quick" not in inspect.signature(measure).parameters:
            raise UserError(f"{name} has no short form: leave --quick out", setting="--quick", given=name)
        result = measure(quick=True) if quick else measure()
    print(json.dumps({"benchmark": name, **result}, indent=2))
    below = [key for key, bar in result["bar"].items() if result["ratio"][key] < bar]
    raise typer.Exit(1 if below else 0)


if __name__ == "__main__":
    run(main)
