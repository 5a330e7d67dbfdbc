"""A sweep by Ray Tune: it proposes points and keeps warm actors; ``run_trial`` does the work, unchanged."""

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from assay.cluster.messages import watched
from assay.data.base import Dataset
from assay.errors import UserError
from assay.executors import LocalExecutor
from assay.results import TrialRecord
from assay.study.keeper import Keeper
from assay.study.measure import run_trial
from assay.study.run import Watcher
from assay.study.store import Store
from assay.study.sweep import Point, Sweep
from assay.study.trial import Trial

# Our store is the truth: Tune need neither log results itself nor save its own state while trials take seconds.
_TUNE = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600", "RAY_AIR_NEW_OUTPUT": "0"}


@dataclass(frozen=True, kw_only=True)
class Swept:
    """How a sweep ended."""

    points: list[Point]
    """Every point that was proposed."""
    trials: dict[str, str]
    """Labels by trial id."""
    ran: int
    failures: Mapping[str, str]
    complete: bool
    """Whether every point was visited; not if the sweep was interrupted."""
    trial_seconds: float
    """Summed over the trials that ran."""
    workers: int
    seconds: float
    """Wall time of the sweep, without the start of Ray."""

    @property
    def overhead(self) -> float:
        """Seconds a trial on top of what the trials themselves took: Tune, actors, storing."""
        return (self.seconds - self.trial_seconds / self.workers) / max(self.ran, 1)


def run_sweep(
    sweep: Sweep,
    space: Mapping[str, Any],
    dataset: Dataset,
    store: Store,
    *,
    samples: int,
    workers: int,
    watcher: Watcher,
    environment: Mapping[str, Any],
    keeper: Keeper | None = None,
) -> Swept:
    """Run every point of a space that is not in the store yet, within a running Ray session.

    Args:
        space: of Tune; its keys are settings of a recipe, and ``fold``.
        samples: Tune's ``num_samples``.
        workers: trials at once.
        watcher: told each finished trial.
        environment: where this runs, kept with each record.
        keeper: keeps the ledger of the data; without one nothing is reserved or noted.
    """
    started = time.perf_counter()
    os.environ.update({name: os.environ.get(name, value) for name, value in _TUNE.items()})
    known = store.finished() | store.superseded()
    total = _points(space) * samples
    found: dict[str, tuple[Point, str]] = {}
    failures: dict[str, str] = {}
    spent = [0.0]
    visited = [0]

    def keep(record: TrialRecord | None, trial: str, label: str, point: Point) -> None:
        found[trial] = (point, label)
        visited[0] += 1
        if record is None:
            return
        store.write(record)
        spent[0] += record.seconds
        if record.failed:
            failures[label] = record.error
        left = max(total - len(found), 0)
        mean = spent[0] / max(len(found), 1)
        watcher.done(record, label, seconds_left=left * mean / workers)

    if keeper is not None:
        # Opened once, from here, and sent along: only one process notes where it is.
        keeper.ledger(dataset)
    watcher.begin(total=total, finished=0, workers=workers)
    try:
        with watched(keep) as queue, tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(
                        _PointTrial,
                        sweep=sweep,
                        dataset=dataset,
                        known=known,
                        queue=queue,
                        about=dict(environment),
                        keeper=keeper,
                    ),
                    {"cpu": sweep.study.threads},
                ),
                param_space=dict(space),
                tune_config=tune.TuneConfig(
                    num_samples=samples,
                    reuse_actors=True,
                    max_concurrent_trials=workers,
                    search_alg=BasicVariantGenerator(random_state=np.random.RandomState(sweep.study.seed % 2**32)),
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    name="sweep",
                    verbose=0,
                    # Nothing is saved by the workers: on a cluster they do not see the driver's folder.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                ),
            )
            results = tuner.fit()
    finally:
        watcher.end()
    for result in results:
        if result.error is not None:
            failures.setdefault(str(result.config), str(result.error))
    return Swept(
        points=[point for point, _ in found.values()],
        trials={trial: label for trial, (_, label) in found.items()},
        ran=len(found) - len(known & set(found)),
        failures=failures,
        complete=visited[0] == total,
        trial_seconds=spent[0],
        workers=workers,
        seconds=time.perf_counter() - started,
    )


class _PointTrial(tune.Trainable):
    """One actor of Tune: runs one point after the other."""

    def setup(
        self,
        config: Point,
        *,
        sweep: Sweep,
        dataset: Dataset,
        known: set[str],
        queue: Any,
        about: dict[str, Any],
        keeper: Keeper | None,
    ) -> None:
        self._sweep, self._dataset, self._known, self._queue, self._about = sweep, dataset, known, queue, about
        self._keeper = keeper

    def reset_config(self, new_config: Point) -> bool:
        """Nothing to make anew: a point is all in its configuration."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        point = dict(self.config)
        trial = self._sweep.trial(point, self._dataset)
        record = None
        if trial.id not in self._known:
            bare = self._kept(trial)
            record = replace(bare, provenance={**bare.provenance, "environment": self._about})
        self._queue.put((record, trial.id, trial.label, point))
        return {"done": True, "trial": trial.id}

    def _kept(self, trial: Trial) -> TrialRecord:
        """Run a trial that the ledger of its data allows, and have it know how that ended."""
        if self._keeper is None:
            return run_trial(trial, LocalExecutor(), self._dataset)
        try:
            self._keeper.begin(trial, self._dataset)
        except UserError as error:
            return trial.record(error=f"{type(error).__name__}: {error}", seconds=0.0)
        record = run_trial(trial, LocalExecutor(), self._dataset)
        self._keeper.end(trial, record, self._dataset)
        return record

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The store holds what matters."""


def _points(space: Mapping[str, Any]) -> int:
    """Number of points of the grid within a space."""
    grids = [value["grid_search"] for value in space.values() if isinstance(value, dict) and "grid_search" in value]
    return int(np.prod([len(grid) for grid in grids], dtype=int))
