"""What Assay's driver costs a trial, in time and memory, at 10 to 10,000 trials that do nothing; and Tune's beside it.

The driver is the real one (``study.run.run_study``): it plans, names, queues, stores and indexes every trial. Only the
training is left out: a worker gives back at once a record with as many rows as a small trial has, and a model of 1 kB.
Each number of trials runs in a process of its own, over an empty folder, once in this process (``local``) and once on
Ray's pool of two warm actors (``pool``). Beside them run 1,000 trials of Tune's function API that report one number
each, with ``reuse_actors``. No report is written meanwhile; ``run_study`` gives it at most a twentieth of the time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.data.splits import Splitting
from assay.executors import Executor, LocalExecutor, Outcome
from assay.recipes import Recipe, Training
from assay.results import Answer, Measurement, TrialRecord
from assay.study.runner import RemainingWork
from assay.study.spec import Study
from assay.study.watching import Watcher

SIZES = (10, 100, 1_000, 10_000)
LIKE_TUNE = 1_000
"""Number of trials that Tune runs too."""
EXTRAPOLATED = 100_000
FOLDS, ROWS = 2, 20
MODEL = bytes(1_024)
GROWTH = 1.2
"""The last half of 10,000 trials may take this many times the processor time of the first half."""


def measure() -> dict[str, Any]:
    """Measures milliseconds and bytes a trial at each size, of both executors and of Tune."""
    runs = {kind: {n: _in_a_process("study", kind, n) for n in SIZES} for kind in ("local", "pool")}
    tune = _in_a_process("tune", "pool", LIKE_TUNE)
    most = max(SIZES)
    grown = {kind: found[most]["last_half_cpu_ms"] / found[most]["first_half_cpu_ms"] for kind, found in runs.items()}
    return {
        "unit": "milliseconds a trial (wall, or cpu of the driver), and bytes of the driver's memory a trial",
        "rows_of_a_trial": ROWS,
        "study": runs,
        "tune": {LIKE_TUNE: tune},
        "extrapolated, not measured": {kind: _extrapolated(found) for kind, found in runs.items()},
        "ratio": {
            "flat, local": round(GROWTH / grown["local"], 2),
            "flat, pool": round(GROWTH / grown["pool"], 2),
            "tune": round(tune["trial_ms"] / runs["pool"][LIKE_TUNE]["trial_ms"], 2),
        },
        "bar": {"flat, local": 1.0, "flat, pool": 1.0, "tune": 1.0},
    }


def _extrapolated(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """Hours and memory of 100,000 trials, by the straight line through the two greatest sizes."""
    fewer, more = sorted(found)[-2:]

    def line(key: str) -> float:
        slope = (found[more][key] - found[fewer][key]) / (more - fewer)
        return found[more][key] + slope * (EXTRAPOLATED - more)

    return {
        "trials": EXTRAPOLATED,
        "hours": round(line("seconds") / 3_600, 2),
        "peak_mb": round(line("peak_mb"), 0),
    }


def _in_a_process(what: str, kind: str, trials: int) -> dict[str, float]:
    """Runs one measurement in a new process, so that its memory is its own."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'platform'}:{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale", what, kind, str(trials)],
        stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=root,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class _Clock(Watcher):
    """Watcher that notes when each trial was done, and the memory of this process then."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.spent: list[float] = []
        self.memories: list[float] = []
        self.begun = self.memory = 0.0

    def begin(self, *, total: int, finished: int, workers: int) -> None:
        self.begun, self.memory = time.perf_counter(), resident()
        self.spent.append(time.process_time())

    def done(self, record: TrialRecord, label: str, *, seconds_left: float, workers: int) -> None:
        self.times.append(time.perf_counter())
        self.spent.append(time.process_time())
        self.memories.append(resident())

    def cpu_ms(self, first: float, last: float) -> float:
        """Mean processor time of a trial between two shares of all trials; other work on the machine is not in it."""
        begin, end = round(first * len(self.times)), round(last * len(self.times))
        return 1e3 * (self.spent[end] - self.spent[begin]) / (end - begin)

    @property
    def bytes(self) -> float:
        """Mean growth of the memory by a trial, without the first tenth, which imports modules and fills caches."""
        first = len(self.memories) // 10
        return (self.memories[-1] - self.memories[first]) / (len(self.memories) - 1 - first)


class NoWork:
    """Executor that sends each trial to a worker and gets a record without training anything.

    Args:
        executor: whose workers answer.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def workers(self) -> int:
        return self._executor.workers

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        return self._executor.map(no_work, items, None)

    def host(self, make: Callable[[], Any]) -> Any:
        return self._executor.host(make)


def no_work(work: RemainingWork, shared: None) -> TrialRecord:
    """Returns the record of a trial as if it had been trained and measured, without doing so."""
    rows = tuple(
        Measurement(name="robust_accuracy", value=0.5, n=114, low=0.4, high=0.6, conditions={"epsilon": k / ROWS})
        for k in range(ROWS)
    )
    trial = work.trial
    asked = trial.evaluations[0].model_dump(mode="json")
    answers = {trial.answer(trial.evaluations[0]): Answer(asked=asked, found=rows)}
    return trial.record(measurements=rows, answers=answers, weights=MODEL + trial.training.encode(), seconds=0.0)


def study_of(trials: int) -> Study:
    """Returns a study with so many trials: recipes that differ in their learning rate, over two folds."""
    from assay.study.reading import read_study

    quickstart = read_study("quickstart", folder=Path(__file__).parents[2] / "jobs" / "studies")
    cohort = quickstart.cohorts["wdbc"]
    recipes = {
        f"recipe {k}": Recipe(training=Training(epochs=1, learning_rate=1e-3 * (1 + k))) for k in range(trials // FOLDS)
    }
    asked = cohort.model_copy(update={"recipes": recipes, "evaluations": cohort.evaluations[:1]})
    return quickstart.model_copy(update={"cohorts": {"wdbc": asked}, "split": Splitting(folds=FOLDS)})


def resident() -> float:
    """Returns the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_one(kind: str, trials: int) -> dict[str, float]:
    """Runs a study of trials that do nothing, and returns what the driver took for it."""
    import resource
    from contextlib import ExitStack

    from assay.cluster.executor import RayExecutor
    from assay.cluster.session import set_defaults
    from assay.store.folder import Store
    from assay.study.run import run_study

    set_defaults()
    clock, study = _Clock(), study_of(trials)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        executor: Executor = LocalExecutor()
        if kind == "pool":
            executor = stack.enter_context(RayExecutor(workers=2))
            list(executor.map(warm, range(8), None))
        began = time.perf_counter()
        before = resident()
        summary = run_study(study, Store(folder), NoWork(executor), watcher=clock, publish=lambda datasets: None)
        seconds = time.perf_counter() - began
    assert summary.ran == trials and not summary.failures, summary
    return {
        "trial_ms": round(1e3 * (clock.times[-1] - clock.begun) / trials, 2),
        "first_half_cpu_ms": round(clock.cpu_ms(0, 0.5), 2),
        "last_half_cpu_ms": round(clock.cpu_ms(0.5, 1), 2),
        "plan_ms": round(1e3 * (clock.begun - began) / trials, 2),
        "seconds": round(seconds, 2),
        "plan_bytes": round((clock.memory - before) / trials),
        "trial_bytes": round(clock.bytes),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def warm(item: int, shared: None) -> None:
    """Imports at a worker what every trial needs."""
    import assay.study.measure  # noqa: F401


def run_tune(trials: int) -> dict[str, float]:
    """Runs trials of Tune's function API that report one number each."""
    import resource

    import ray
    from ray import tune

    from assay.cluster.session import set_defaults

    set_defaults()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    before, began = resident(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            _report,
            param_space={"rate": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=2),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        found = tuner.fit()
        seconds = time.perf_counter() - began
    assert len(found) == trials and not found.errors
    grown = resident() - before
    ray.shutdown()
    return {
        "trial_ms": round(1e3 * seconds / trials, 2),
        "seconds": round(seconds, 2),
        "trial_bytes": round(grown / trials),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _report(config: dict[str, float]) -> None:
    from ray import tune

    tune.report({"accuracy": config["rate"]})


if __name__ == "__main__":
    what, kind, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print(json.dumps(run_one(kind, trials) if what == "study" else run_tune(trials)))
