"""Runs the library's own computations on a GPU and on the CPU, and compares them; needs neither Ray nor pyarrow.

python -m tests.device --json device.json

Training (plain, adversarial, private), attack curves, explanations and proofs, on small networks of the shapes that
studies use. One line a check; the exit code is 1 where something differs. `--device cpu` compares the CPU with itself,
`--device simulated` with a second device that is simulated on the CPU and refuses what a GPU refuses.
"""

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Device = Literal["cuda", "cpu", "mps", "simulated"]


def main(
    device: Annotated[Device, typer.Option(help="Compared with the CPU.")] = "cuda",
    quick: Annotated[
        bool, typer.Option("--quick", help="Run one network a part: seconds in place of minutes.")
    ] = False,
    only: Annotated[str, typer.Option(help="Run the checks whose name holds this text.")] = "",
    limit: Annotated[float, typer.Option(help="Seconds after which no further check begins.")] = 300.0,
    to: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the verdicts here.")] = None,
) -> None:
    """Compare what a device computes with what the CPU computes."""
    import torch

    if to is not None and not to.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {to.absolute().parent}", param_hint="--json")
    if (why := _absent(device)) is not None:
        typer.echo(f"skipped: {why}")
        _write(to, {"device": device, "skipped": why, "checks": []})
        return
    from tests.device.all_checks import all_checks
    from tests.device.check import perform
    from tests.device.simulated import DEVICE, simulated

    chosen = [check for check in all_checks() if only in check.name and (check.quick or not quick)]
    if not chosen:
        names = ", ".join(check.name for check in all_checks() if check.quick or not quick)
        raise typer.BadParameter(f"no check has {only!r} in its name; there are: {names}", param_hint="--only")
    place = DEVICE if device == "simulated" else torch.device(device)
    began, verdicts, left = time.perf_counter(), [], 0
    with simulated() if device == "simulated" else nullcontext():
        for check in chosen:
            if time.perf_counter() - began > limit:
                left += 1
                continue
            verdicts.append(perform(check, place))
            typer.echo(verdicts[-1].line)
    seconds = time.perf_counter() - began
    bad = sum(verdict.status in ("differs", "failed") for verdict in verdicts)
    skipped = sum(verdict.status == "skipped" for verdict in verdicts)
    typer.echo(
        f"{len(verdicts) - bad - skipped} of {len(chosen)} checks agree, {bad} do not, {skipped} skipped, {left} not "
        f"begun within {limit:g} s; {seconds:.0f} s on {_title(place)}"
    )
    about = {"device": _title(place), "torch": torch.__version__, "seconds": seconds, "not_begun": left}
    _write(to, {**about, "checks": [verdict.plain for verdict in verdicts]})
    raise typer.Exit(1 if bad or left else 0)


def _absent(device: Device) -> str | None:
    """Returns why a device cannot be used; None if it can."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    if device == "mps" and not torch.backends.mps.is_available():
        return "no MPS device"
    return None


def _title(place: Any) -> str:
    import torch

    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type


def _write(to: Path | None, content: dict[str, Any]) -> None:
    if to is not None:
        to.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
