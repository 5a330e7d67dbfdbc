"""What a sweep costs beside training: time, its growth, memory of the driver; Tune's function API beside it.

Every trial is a trial through our code: proposal, identity, ledger, split, network, evaluations, model file, results
and index. Left out is what trains: no trainer is built and no step is taken, so the model has its first weights. The
peer runs a function that reports one number, with nothing stored: what Tune itself costs a trial.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from assay.cluster.executor import RayExecutor
from assay.cluster.session import set_defaults
from assay.data.base import Dataset
from assay.ledger import Ledger
from assay.release.keeper import Keeper
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.reading import build_study
from assay.study.runner import evaluate_work
from assay.study.sweep_items import SweepItem
from assay.study.sweep_prepare import PreparedSweep, prepare_sweep
from assay.study.sweep_run import run_sweep
from assay.study.training import Trained, network_of, prepare_records
from assay.study.watching import Watcher
from assay.training.log import TrainingLog

TRIALS, MANY, MANY_QUICK, PEER_TRIALS, WORKERS = 500, 5000, 1000, 100, 2
PER_TRIAL = 0.1
"""Most seconds of wall time a trial, beside training."""
GROWTH = 1.2
"""Most time of trials around the 5,000th, in terms of those around the 50th."""
BYTES = 2000
"""Most memory of the driver a trial."""
DRAWS = 50
"""Bootstrap draws of the accuracy of a trial, 200 by default: what is asked of a model is no cost of the sweep."""
WINDOW = 40
"""Trials on each side of the 50th and the 5,000th whose times are compared."""


def without_training(item: SweepItem, datasets: Mapping[str, Dataset]) -> TrialRecord:
    """Runs a trial of which the training alone is left out.

    Args:
        item: of the sweep.
        datasets: by cohort.

    Returns:
        The record, with a model of first weights.
    """
    dataset, _ = prepare_records(item.trial, datasets[item.trial.cohort])
    log = TrainingLog(seconds=0.0, worker_seconds=0.0, workers=1)
    trained = Trained.of(network_of(item.trial, dataset)(), log)
    record = evaluate_work(replace(item.work, trained=trained), datasets)
    return replace(record, weights=trained.checkpoint)


class Watching(Watcher):
    """A watcher that keeps the moment of each trial and the driver's memory at some of them."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.memory: dict[int, int] = {}

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        self.moments.append(time.perf_counter())

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        assert not record.failed, record.error
        self.moments.append(time.perf_counter())
        if len(self.moments) % 500 == 1:
            self.memory[len(self.moments) - 1] = _private_bytes()


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds a trial, their growth, and the driver's bytes a trial; Tune's seconds a trial beside them.

    Args:
        quick: compare the 50th trial with the 1,000th in place of the 5,000th.
    """
    set_defaults()
    most = MANY_QUICK if quick else MANY
    tune_before = _tune(PEER_TRIALS)
    with RayExecutor(workers=WORKERS) as executor:
        _run(executor, 20)  # the workers import and compile once
        few, _ = _run(executor, TRIALS)
        many, watching = _run(executor, most)
    tune_after = _tune(PEER_TRIALS)
    seconds = [later - earlier for earlier, later in pairwise(watching.moments)]
    ends = (50, len(seconds) - WINDOW)
    around = {at: statistics.median(seconds[at - WINDOW : at + WINDOW]) for at in ends}
    (first_at, first), (last_at, last) = min(watching.memory.items()), max(watching.memory.items())
    growth = around[ends[1]] / around[50]
    bytes_a_trial = (last - first) / (last_at - first_at)
    peer = min(tune_before, tune_after)
    return {
        "unit": "seconds of wall time a trial on 2 workers, beside training",
        "seconds_a_trial": {str(TRIALS): round(few, 4), str(most): round(many, 4)},
        "tune_seconds_a_trial": {str(PEER_TRIALS): [round(tune_before, 4), round(tune_after, 4)]},
        "median_seconds_around_trial": {str(at): round(value, 4) for at, value in around.items()},
        "growth": round(growth, 3),
        "driver_bytes_a_trial": round(bytes_a_trial),
        "left_out": "building a trainer and taking its steps",
        "ratio": {
            "limit": round(PER_TRIAL / few, 2),
            "growth": round(GROWTH / growth, 2),
            "memory": round(BYTES / max(bytes_a_trial, 1), 2),
            "tune": round(peer / few, 2),
        },
        "bar": {"limit": 1.0, "growth": 1.0, "memory": 1.0},
    }


def _prepared(trials: int) -> PreparedSweep:
    """Returns a sweep of random points over the breast-cancer records."""
    from ray import tune

    cohort = {
        "dataset": "wdbc",
        "model": {"name": "mlp", "hidden": [8]},
        "evaluations": [{"name": "accuracy", "draws": DRAWS}, "cost"],
        "recipes": {"standard": {}},
    }
    study = build_study({"name": "no-op", "cohorts": {"wdbc": cohort}}, "benchmark")
    return prepare_sweep(
        study,
        name="no-op",
        space=lambda radius: {
            "training.learning_rate": tune.loguniform(1e-5, 1e-1),
            "training.batch_size": tune.choice([32, 64, 128]),
        },
        cohort=None,
        recipe="standard",
        asked=("accuracy", "cost"),
        tested="validation",
        samples=trials,
    )


def _run(executor: Any, trials: int) -> tuple[float, Watching]:
    """Runs a sweep; returns the seconds a trial from its first to its last moment, files of the end included."""
    watching, ready = Watching(), _prepared(trials)
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(Path(folder) / "ledger", results=f"{folder}/results", opening=Ledger.create)
        store = Store(f"{folder}/results")
        swept = run_sweep(ready, store, executor, watcher=watching, observer=keeper, run=without_training)
        seconds = time.perf_counter() - watching.moments[0]
    # Two random points in thousands may be equal; such a trial runs once.
    assert swept.complete and not swept.failures and 0.99 * trials <= swept.ran <= trials, swept
    return seconds / swept.ran, watching


def _tune(trials: int) -> float:
    """Returns the seconds a trial of Tune's function API over the same kind of points, without the start of Ray."""
    import ray
    from ray import tune

    from assay.cluster.session import ray_session

    def report(config: Mapping[str, Any]) -> None:
        tune.report({"loss": config["rate"]})

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # it would print between the lines of the JSON
    with ray_session(None, workers=WORKERS), tempfile.TemporaryDirectory() as folder:
        assert ray.is_initialized()
        began = time.perf_counter()
        found = tune.Tuner(
            report,
            param_space={"rate": tune.loguniform(1e-5, 1e-1), "batch": tune.choice([32, 64, 128])},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        seconds = time.perf_counter() - began
    assert len(found) == trials and not found.errors
    return seconds / trials


def _private_bytes() -> int:
    """Returns the memory of this process without mapped files."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024
