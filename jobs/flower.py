"""Run a Flower app, as it is, on Assay's workers.

python -m jobs.flower path/to/app --clients 10 --workers 2
"""

import os
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import console, console_table, count_of, run, user_errors
from jobs.options import Address

if TYPE_CHECKING:
    from assay.federated.apps import AppRun
    from assay.federated.grid import Exchange


def main(
    app: Annotated[str, typer.Argument(metavar="APP", help="Folder of the app, with its pyproject.toml. Its code is your own: it runs with your rights.")],
    clients: Annotated[int | None, typer.Option(min=1, help="Number of clients; by default the app's num-supernodes, or 10.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers, each with one client at a time. Default: 1, in this process without Ray; on a cluster one per CPU.")] = None,
    run_config: Annotated[list[str] | None, typer.Option("--run-config", metavar="KEY=VALUE", help="Change a setting of the app, such as num-server-rounds=5. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random generators of Python, NumPy and torch, for the server and for each client.")] = 0,
    deadline: Annotated[float, typer.Option(min=1, help="Greatest number of seconds in which clients must answer; late ones are failures.")] = 3600.0,
    counts: Annotated[str, typer.Option(metavar="N,N,…", help="Records of each client that you know of: none can claim more.")] = "",
    layout: Annotated[str, typer.Option(metavar="sent|free", help="sent: replies must have the keys, shapes and types of the arrays that clients are sent. free: only values are checked.")] = "sent",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads of each worker.")] = 1,
    address: Address = None,
    out: Annotated[str | None, typer.Option(help="File for the final arrays, .safetensors.")] = None,
) -> None:  # fmt: skip
    """Run a Flower app (ServerApp and ClientApp) without changing it. Every reply is checked before a strategy sees it."""
    with user_errors():
        console.print("loading the app …", style="dim")
        from assay.cluster.executor import RayExecutor
        from assay.cluster.session import lasting, set_defaults
        from assay.errors import FederationError, UserError
        from assay.executors import LocalExecutor

        set_defaults()
        from assay.federated.app_files import read_app
        from assay.federated.apps import run_app
        from assay.federated.replies import ReplyCheck

        if layout not in ("sent", "free"):
            raise UserError(f"--layout is {layout!r}; use sent or free", setting="--layout", given=layout)
        flower = read_app(app)
        number = clients or flower.clients
        target = None if out is None else Path(lasting(out, default="final.safetensors"))
        if target is not None and not target.parent.is_dir():
            raise UserError(f"--out {out!r}: there is no folder {target.parent}", setting="--out", given=out)
        check = ReplyCheck(layout="free" if layout == "free" else "sent", counts=_counts(counts, number))
        joins = bool(address or os.environ.get("RAY_ADDRESS"))
        console.print(f"{flower.name}: {count_of(number, 'client')}", highlight=False, markup=False)
        try:
            with RayExecutor(address=address, workers=workers, cpus=threads) as pool:
                finished = run_app(
                    flower,
                    pool if joins or (workers or 1) > 1 else LocalExecutor(),
                    clients=number,
                    run_config=_changes(run_config or [], flower.config),
                    seed=seed,
                    check=check,
                    deadline=deadline,
                    threads=threads,
                    told=_tell,
                )
        except UserError:
            raise
        except FederationError as error:
            console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        _print_results(finished)
        if target is not None:
            _save(finished, target)
        hopeless = [exchange for exchange in finished.exchanges if len(exchange.failures) == exchange.messages]
        if hopeless:
            console.print(f"{count_of(len(hopeless), 'round')} without a usable reply", style="red", highlight=False)
            raise typer.Exit(1)


def _tell(exchange: "Exchange") -> None:
    answered = exchange.messages - len(exchange.failures)
    answers = f"{answered} of {count_of(exchange.messages, 'message')} answered in {exchange.seconds:.1f} s"
    console.print(f"{exchange.kind}: {answers}", highlight=False, markup=False)
    for node, reason in sorted(exchange.failures.items()):
        first = (reason.splitlines() or ["no reason given"])[0]
        console.print(f"  client {node}: {first}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _print_results(finished: "AppRun") -> None:
    """Prints the metrics of every round, and what was odd about the clients' claims."""
    for result in finished.results:
        sources = {
            "train": result.train_metrics_clientapp,
            "evaluate": result.evaluate_metrics_clientapp,
            "server": result.evaluate_metrics_serverapp,
        }
        heads = [f"{source} {key}" for source, rounds in sources.items() for key in _keys(rounds)]
        rows = [
            (str(number), *(_cell(rounds, number, key) for rounds in sources.values() for key in _keys(rounds)))
            for number in sorted({number for rounds in sources.values() for number in rounds})
        ]
        if rows:
            console.print(console_table(["round", *heads], rows))
    for flag in dict.fromkeys(finished.flags):
        console.print(f"▲ {flag}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{count_of(len(finished.exchanges), 'exchange')} of messages in {finished.seconds:.1f} s")


def _keys(rounds: dict[int, Any]) -> list[str]:
    return list(dict.fromkeys(key for metrics in rounds.values() for key in metrics))


def _cell(rounds: dict[int, Any], number: int, key: str) -> str:
    value = rounds.get(number, {}).get(key)
    return "–" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _save(finished: "AppRun", target: Path) -> None:
    """Writes the arrays of the last strategy that has any."""
    from safetensors.numpy import save_file

    arrays = next((result.arrays for result in reversed(finished.results) if len(result.arrays)), None)
    if arrays is None:
        console.print("no strategy of this app left arrays: nothing was saved", style="yellow")
        return
    unfinished = target.with_name(f"{target.name}.unfinished")
    save_file({key: array.numpy() for key, array in arrays.items()}, unfinished)
    unfinished.replace(target)
    console.print(f"arrays: {target}", highlight=False, soft_wrap=True)


def _changes(written: list[str], defaults: Any) -> dict[str, Any]:
    """Returns settings given as in Flower, such as ``"lr=0.1 name='a b'"``; texts need no quotation marks."""
    from assay.errors import UserError

    changes: dict[str, Any] = {}
    for part in (part for line in written for part in shlex.split(line)):
        name, mark, value = part.partition("=")
        if not mark or not name:
            raise UserError(f"--run-config {part!r} is not KEY=VALUE", setting="--run-config", given=part)
        try:
            read = value if isinstance(defaults.get(name), str) else tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        changes[name] = read
    return changes


def _counts(written: str, clients: int) -> dict[int, int]:
    """Returns the records of each partition."""
    from assay.errors import UserError

    numbers = [number.strip() for number in written.split(",") if number.strip()]
    if any(not number.isdecimal() or int(number) < 1 for number in numbers):
        raise UserError(f"--counts {written!r} must be numbers above 0", setting="--counts", given=written)
    if numbers and len(numbers) != clients:
        raise UserError(
            f"--counts has {len(numbers)} numbers, and there are {clients} clients",
            setting="--counts",
            given=len(numbers),
            allowed=clients,
        )
    return {partition: int(number) for partition, number in enumerate(numbers)}


if __name__ == "__main__":
    run(main)
