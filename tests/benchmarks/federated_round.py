"""Rounds of federated averaging by Assay, Flower's simulation engine, pfl and a plain loop over the clients.

All engines train the same clients on the same batches with fresh plain SGD. First their final weights are compared, in
float64; if they differ, no time is measured. Then the engines run in turn, each in processes of its own. The peers live
in the environment that ``make peers`` sets up, since Flower's engine wants an older Ray and pfl an older dp-accounting.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay.cluster.session import DEFAULTS
from assay.errors import UserError
from tests.benchmarks.federated import tasks
from tests.benchmarks.federated.process_memory import PeakMemory

ROUNDS_OF_TIMING = 3
CLOSE = 1e-10
"""Greatest difference of a final weight in float64 between engines that did the same."""
SLOWEST_OF_PFL, FASTER_THAN_FLOWER_LINEAR, FASTER_THAN_FLOWER_IMAGES = 1.1, 5.0, 1.4
SLOWEST_OF_CENTRAL, MOST_MEMORY = 1.15, 1.5
PATIENCE = 3600
"""Seconds for one run of an engine."""
ROOT = Path(__file__).parents[2]
PEERS = Path(os.environ.get("ASSAY_PEERS_FEDERATED", ROOT / ".venv-peers-federated")) / "bin" / "python"
PACKAGE = "tests.benchmarks.federated"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One way to train a bundle."""

    engine: Literal["plain_loop", "assay_engine", "flower_engine", "pfl_engine", "central"]
    workers: int = 1
    """Processes that train; threads of ``central``."""

    @property
    def name(self) -> str:
        return f"{self.engine.removesuffix('_engine')}_{self.workers}"

    def command(self) -> list[str]:
        """Returns the program and its options, without the bundle."""
        module = f"{PACKAGE}.{self.engine}"
        if self.engine == "pfl_engine" and self.workers > 1:
            start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.workers}", "-m", module]
        else:
            start = ["-m", module]
        python = PEERS if self.engine in {"flower_engine", "pfl_engine"} else Path(sys.executable)
        return [str(python), *start]


FLOOR = Run(engine="plain_loop")
ASSAY, FLOWER, PFL = (
    [Run(engine=engine, workers=workers) for workers in (1, 2)]  # type: ignore[arg-type]
    for engine in ("assay_engine", "flower_engine", "pfl_engine")
)
CENTRAL = [Run(engine="central", workers=threads) for threads in (1, 2)]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A task, with the engines that are timed on it."""

    write: Callable[..., None]
    rounds: int
    timed: Sequence[Run]
    proof_rounds: int
    """Rounds after which weights are compared in float64, and over which memory and bytes are measured."""
    repeats: int = ROUNDS_OF_TIMING
    """How often each engine is timed, in turn."""


COMPARISONS = {
    "cross_device": Comparison(
        write=tasks.cross_device, rounds=10, timed=[FLOOR, *ASSAY, *PFL], proof_rounds=2, repeats=2
    ),
    "linear": Comparison(write=tasks.linear, rounds=100, timed=[FLOOR, *ASSAY, *FLOWER], proof_rounds=100),
    "images": Comparison(write=tasks.images, rounds=5, timed=[FLOOR, *ASSAY, *FLOWER, *CENTRAL], proof_rounds=5),
}


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Returns seconds, memory and bytes of all engines, with their ratios and bars.

    Args:
        quick: a tenth of the rounds, timed once.

    Raises:
        UserError: the environment of the peers is missing, or an engine failed.
        AssertionError: the engines do not end in the same weights, so that a timing would be void.
    """
    if not PEERS.exists():
        raise UserError(
            f"there is no {PEERS}: run make peers once, or set ASSAY_PEERS_FEDERATED to such an environment",
            setting="ASSAY_PEERS_FEDERATED",
            given=str(PEERS),
        )
    with tempfile.TemporaryDirectory() as place:
        found = {
            name: _compared(comparison, Path(place), name=name, quick=quick) for name, comparison in COMPARISONS.items()
        }
        memory = _memory_by_clients(Path(place), rounds=1 if quick else 5)
    ratio, bar = _judged({name: result["seconds"] for name, result in found.items()}, memory)
    return {
        "unit": "seconds from the first round to the last, median of alternating runs",
        "quick": quick,
        "tasks": found,
        "many_clients_peak_mib": {name: round(value / 2**20, 1) for name, value in memory.items()},
        "ratio": {name: round(value, 3) for name, value in ratio.items()},
        "bar": bar,
    }


def _compared(comparison: Comparison, place: Path, *, name: str, quick: bool) -> dict[str, Any]:
    """Returns the figures of one task, after the equality of all engines' weights."""
    rounds, proof_rounds = (
        max(1, count // 10) if quick else count for count in (comparison.rounds, comparison.proof_rounds)
    )
    bundle, short = place / f"{name}.npz", place / f"{name}_short.npz"
    comparison.write(bundle, rounds=rounds)
    comparison.write(short, rounds=proof_rounds)
    differences = _differences(short, place)
    _say(f"{name}: {differences}")
    measured = {}
    for run in comparison.timed:
        measured[run.name] = _run(run, short, options=["--count"], watched=True)
        _say(f"{name}: memory of {run.name} {measured[run.name]['peak'] / 2**20:.0f} MiB")
    seconds: dict[str, list[float]] = {run.name: [] for run in comparison.timed}
    setup: dict[str, list[float]] = {run.name: [] for run in comparison.timed}
    for _ in range(1 if quick else comparison.repeats):
        for run in comparison.timed:
            answer = _run(run, bundle)
            seconds[run.name].append(answer["seconds"])
            setup[run.name].append(answer["setup_seconds"])
            _say(f"{name}: {run.name} {answer['seconds']:.2f} s")
    with np.load(bundle) as arrays:
        client_rounds = arrays["cohorts"].size
    median = {run: statistics.median(values) for run, values in seconds.items()}
    floor = median[FLOOR.name]
    return {
        "rounds": rounds,
        "rounds_until_weights_are_compared": proof_rounds,
        "greatest_difference_of_a_weight": differences,
        "seconds": {run: round(value, 3) for run, value in median.items()},
        "runs": {run: [round(value, 3) for value in values] for run, values in seconds.items()},
        "setup_seconds": {run: round(statistics.median(values), 2) for run, values in setup.items()},
        "seconds_a_round": {run: round(value / rounds, 5) for run, value in median.items()},
        "milliseconds_a_client_beyond_its_steps": {
            run.name: round(1000 * (run.workers * median[run.name] - floor) / client_rounds, 3)
            for run in comparison.timed
            if run.engine not in {"plain_loop", "central"}
        },
        "peak_mib": {run: round(answer["peak"] / 2**20, 1) for run, answer in measured.items()},
        "bytes_between_processes_a_round": {
            run: None if answer["bytes"] is None else round(answer["bytes"] / proof_rounds)
            for run, answer in measured.items()
        },
    }


def _differences(bundle: Path, place: Path) -> dict[str, float]:
    """Returns the greatest difference of a final weight from the plain loop, in float64, by engine.

    Raises:
        AssertionError: a difference is above ``CLOSE``.
    """
    weights = {}
    for run in (FLOOR, *ASSAY, *FLOWER, *PFL):
        stored = place / "weights.npz"
        _run(run, bundle, options=["--dtype", "float64", "--weights", str(stored)])
        with np.load(stored) as arrays:
            weights[run.name] = {name: arrays[name] for name in arrays.files}
        stored.unlink()
    reference = weights.pop(FLOOR.name)
    differences = {
        run: max(float(np.abs(arrays[name] - reference[name]).max()) for name in reference)
        for run, arrays in weights.items()
    }
    far = {run: difference for run, difference in differences.items() if not difference <= CLOSE}
    if far:
        raise AssertionError(f"engines end in other weights than the plain loop, so a timing would be void: {far}")
    return differences


def _memory_by_clients(place: Path, *, rounds: int) -> dict[str, float]:
    """Returns the peak memory in bytes of Assay with 10 clients and with 10,000, of which 100 train in a round."""
    peaks = {}
    for name, clients, cohort in (("10_clients", 10, 10), ("10000_clients", 10_000, 100)):
        bundle = place / f"{name}.npz"
        tasks.many_clients(bundle, clients=clients, cohort=cohort, rounds=rounds)
        peaks[name] = float(_run(ASSAY[1], bundle, watched=True)["peak"])
        _say(f"{name}: {peaks[name] / 2**20:.0f} MiB")
    return peaks


def _judged(
    seconds: dict[str, dict[str, float]], memory: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns ratios, of which more is better, and the least that each must be."""
    device, linear, images = (seconds[name] for name in ("cross_device", "linear", "images"))
    ours, flower, pfl = ([run.name for run in runs] for runs in (ASSAY, FLOWER, PFL))
    ratio, bar = {}, {}
    for workers, (assay, theirs, peer) in enumerate(zip(ours, flower, pfl, strict=True), start=1):
        ratio[f"cross_device_pfl_over_assay_{workers}"] = device[peer] / device[assay]
        bar[f"cross_device_pfl_over_assay_{workers}"] = round(1 / SLOWEST_OF_PFL, 3)
        ratio[f"cross_device_floor_over_assay_{workers}"] = device[FLOOR.name] / device[assay]
        ratio[f"linear_flower_over_assay_{workers}"] = linear[theirs] / linear[assay]
        bar[f"linear_flower_over_assay_{workers}"] = FASTER_THAN_FLOWER_LINEAR
        ratio[f"images_flower_over_assay_{workers}"] = images[theirs] / images[assay]
        bar[f"images_flower_over_assay_{workers}"] = FASTER_THAN_FLOWER_IMAGES
    central = min(images[run.name] for run in CENTRAL)
    ratio["images_central_over_assay"] = central / min(images[name] for name in ours)
    bar["images_central_over_assay"] = round(1 / SLOWEST_OF_CENTRAL, 3)
    ratio["memory_of_10_over_10000_clients"] = memory["10_clients"] / memory["10000_clients"]
    bar["memory_of_10_over_10000_clients"] = round(1 / MOST_MEMORY, 3)
    return ratio, bar


def _run(run: Run, bundle: Path, *, options: Sequence[str] = (), watched: bool = False) -> dict[str, Any]:
    """Returns what one engine printed, and the peak of its memory where it is watched.

    Raises:
        UserError: it failed or took too long.
    """
    command = [*run.command(), str(bundle), "--workers", str(run.workers), *options]
    environment = {**DEFAULTS, **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    environment["OMP_NUM_THREADS"] = str(run.workers) if run.engine == "central" else "1"
    if run.command()[0] == str(PEERS):
        environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=errors, text=True, cwd=ROOT, env=environment)
        memory = PeakMemory(process.pid)
        try:
            if watched:
                with memory:
                    process.wait(PATIENCE)
            else:
                process.wait(PATIENCE)
        finally:
            process.kill()
        if process.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["it said nothing"]
            raise UserError(f"{run.name} failed: {lines[-1]}; after a change of the peers run make peers")
        output.seek(0)
        answers = [line for line in output.read().splitlines() if line.startswith('{"seconds"')]
    return {**json.loads(answers[-1]), "peak": memory.peak}


_say = partial(print, file=sys.stderr, flush=True)
