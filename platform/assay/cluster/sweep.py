"""A sweep on Ray Tune: Tune proposes points and keeps warm actors; ``run_trial`` runs each trial."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from assay.cluster.claims import Model, start_claims
from assay.cluster.messages import watched
from assay.cluster.session import describe_environment, ray_session
from assay.data.base import Dataset
from assay.executors import LocalExecutor
from assay.release.choice import choice_of_best
from assay.release.keeper import Keeper
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.run import Watcher, write_study
from assay.study.runner import RemainingWork, Runner
from assay.study.sweep import Point, Prepared, Sweep, study_of
from assay.study.training import Trained
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of

# Results are in our store, so Tune need neither log them nor save its own state.
_TUNE = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600", "RAY_AIR_NEW_OUTPUT": "0"}


@dataclass(frozen=True, kw_only=True)
class Swept:
    """Outcome of a sweep."""

    points: list[Point]
    """Every point that was proposed."""
    trials: dict[str, str]
    """Labels by trial identifier."""
    ran: int
    failures: Mapping[str, str]
    complete: bool
    """Whether every point was run; false if the sweep was interrupted."""
    trial_seconds: float
    """Seconds, summed over the trials that ran."""
    workers: int
    seconds: float
    """Wall time of the sweep in seconds, without the start of Ray."""
    choice: str = ""
    """The ε cost of choosing the best of its trials, as a sentence; see ``release.choice``."""


def sweep_to_store(
    prepared: Prepared,
    store: Store,
    *,
    workers: int | None,
    address: str | None,
    watcher: Watcher,
    keeper: Keeper | None = None,
) -> Swept:
    """Runs every point of a sweep that is not in a store yet, on Ray, and stores the study file beside the results.

    Args:
        prepared: the sweep with its data and search space.
        store: of the results.
        workers: simultaneous trials; one per CPU by default.
        address: see ``session.ray_session``.
        watcher: called with each finished trial.
        keeper: of the ledger of the data; without one nothing is reserved or recorded.

    Returns:
        The outcome.

    Raises:
        UserError: another job is writing the store, or the cluster does not answer.
    """
    sweep, dataset = prepared.sweep, prepared.dataset
    watcher.read(dataset.name, dataset)
    with store.locked(), ray_session(address, workers=workers, cpus=sweep.study.threads) as available:
        where = describe_environment()
        swept = _run(prepared, store, workers=available, watcher=watcher, about=where, keeper=keeper)
        # An interrupted sweep keeps the earlier results visible.
        store.keep_only(swept.trials if swept.complete else {*swept.trials, *store.finished()})
        write_study(study_of(sweep, swept.points), store, swept.trials, where, fresh=swept.ran > 0)
        choice = choice_of_best(store, dataset, keeper.trainings(dataset) if keeper else ())
    return replace(swept, choice=choice.text)


def _run(
    prepared: Prepared,
    store: Store,
    *,
    workers: int,
    watcher: Watcher,
    about: Mapping[str, Any],
    keeper: Keeper | None,
) -> Swept:
    """Runs the sweep within a Ray session."""
    started = time.perf_counter()
    os.environ.update({name: os.environ.get(name, value) for name, value in _TUNE.items()})
    known = store.finished() | store.superseded()
    claims = start_claims(_models(store))
    runner = Runner(keeper, about)

    def settle(training: str, model: Model | None) -> None:
        ray.get(claims.settle.remote(training, [] if model is None else [ray.put(model)]))

    progress = _Progress(store, watcher, runner, settle, prepared, workers=workers)
    if keeper is not None:
        # Opened once here and sent to the actors, so that only one process stores its mark.
        keeper.ledger(prepared.dataset)
    watcher.begin(total=progress.total, finished=0, workers=workers)
    try:
        with watched(progress.keep) as queue, tempfile.TemporaryDirectory() as folder:
            trainable = tune.with_parameters(
                _PointTrial,
                sweep=prepared.sweep,
                dataset=prepared.dataset,
                known=known,
                claims=claims,
                queue=queue,
                runner=runner,
            )
            results = _tuner(trainable, prepared, folder, workers=workers).fit()
    finally:
        watcher.end()
    errors = {str(result.config): str(result.error) for result in results if result.error is not None}
    return progress.swept(known, errors, seconds=time.perf_counter() - started)


def _tuner(trainable: Any, prepared: Prepared, folder: str, *, workers: int) -> tune.Tuner:
    """Returns a Tuner that gives the points to reused actors.

    Args:
        folder: temporary, on the driver.
    """
    study = prepared.sweep.study
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": study.threads}),
        param_space=dict(prepared.space),
        tune_config=tune.TuneConfig(
            num_samples=prepared.samples,
            reuse_actors=True,
            max_concurrent_trials=workers,
            search_alg=BasicVariantGenerator(random_state=np.random.RandomState(study.seed % 2**32)),
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            name="sweep",
            verbose=0,
            # Workers save nothing: on a cluster they cannot reach the driver's folder.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
        ),
    )


class _Progress:
    """Running totals of a sweep.

    Args:
        store: stores each record when it arrives.
        watcher: called with each trial that was run.
        runner: records how each trial ended.
        settle: called with the name of each model, and with the model, or None where its training failed.
        prepared: the sweep.
        workers: simultaneous trials.
    """

    def __init__(
        self,
        store: Store,
        watcher: Watcher,
        runner: Runner,
        settle: Callable[[str, Model | None], None],
        prepared: Prepared,
        *,
        workers: int,
    ) -> None:
        self.total = _points(prepared.space) * prepared.samples
        self._store, self._watcher, self._runner, self._settle = store, watcher, runner, settle
        self._dataset, self._workers = prepared.dataset, workers
        self._found: dict[str, tuple[Point, str]] = {}
        """Point and label of each trial, by identifier."""
        self._failures: dict[str, str] = {}
        self._trial_seconds = 0.0
        self._visited = 0

    def keep(self, record: TrialRecord | None, trial: Trial, point: Point, began: bool) -> None:
        """Handles the result of a point.

        Args:
            record: None for a trial that was finished before.
            began: whether the trial began; false for one that was refused.
        """
        self._found[trial.id] = (point, trial.label)
        self._visited += 1
        if record is None:
            return
        self._end(record, trial, began=began)
        self._trial_seconds += record.seconds
        if record.failed:
            self._failures[trial.label] = record.error
        mean = self._trial_seconds / len(self._found)
        left = max(self.total - len(self._found), 0)
        self._watcher.done(record, trial.label, seconds_left=left * mean / self._workers)

    def _end(self, record: TrialRecord, trial: Trial, *, began: bool) -> None:
        """Stores a trial and records its end; then its model is available to other actors."""
        model = None
        try:
            if record.weights:
                # Stored before the ledger records the end of the training: a lost model would cost its ε again.
                self._store.write_checkpoint(trial.training, record.weights)
            self._store.write(self._runner.end(trial, record, self._dataset) if began else record)
            if record.weights:
                answers = self._store.answers(trial.training, artefact_of(record.weights))
                model = Trained(checkpoint=record.weights), answers
        finally:
            self._settle(trial.training, model)

    def swept(self, known: set[str], errors: Mapping[str, str], *, seconds: float) -> Swept:
        """Returns the outcome of the sweep.

        Args:
            known: identifiers of trials that were finished before.
            errors: of Tune itself, by the point at which it failed.
            seconds: wall time.
        """
        return Swept(
            points=[point for point, _ in self._found.values()],
            trials={trial: label for trial, (_, label) in self._found.items()},
            ran=len(self._found) - len(known & set(self._found)),
            failures={**self._failures, **errors},
            complete=self._visited == self.total,
            trial_seconds=self._trial_seconds,
            workers=self._workers,
            seconds=seconds,
        )


class _PointTrial(tune.Trainable):
    """Actor of Tune that runs one point after the other."""

    def setup(
        self,
        config: Point,
        *,
        sweep: Sweep,
        dataset: Dataset,
        known: set[str],
        claims: Any,
        queue: Any,
        runner: Runner,
    ) -> None:
        self._sweep, self._dataset, self._known, self._queue = sweep, dataset, known, queue
        self._claims, self._runner = claims, runner

    def reset_config(self, new_config: Point) -> bool:
        """Takes the next point; no other state depends on it."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        point = dict(self.config)
        trial = self._sweep.trial(point, self._dataset)
        record, began = (None, False) if trial.id in self._known else self._run(trial)
        self._queue.put((record, trial, point, began))
        return {"done": True, "trial": trial.id}

    def _run(self, trial: Trial) -> tuple[TrialRecord, bool]:
        """Runs a trial; its model may have been trained before, or by another actor meanwhile."""
        available = ray.get(self._claims.take.remote(trial.training, ray.get_runtime_context().current_actor))
        if available:
            trained, known = ray.get(available[0])
            work = RemainingWork(trial=trial, trained=trained, known=known)
            return self._runner.run(work, self._dataset, LocalExecutor())
        try:
            return self._runner.run(RemainingWork(trial=trial), self._dataset, LocalExecutor())
        except BaseException:
            ray.get(self._claims.settle.remote(trial.training, []))
            raise

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: the results are in the store."""


def _models(store: Store) -> dict[str, "ray.ObjectRef[Model]"]:
    """Returns every model of a store with its findings, by name, as Ray objects: actors cannot read the store."""
    models = {}
    for training in store.models():
        content = store.checkpoint(training)
        if content is not None:
            models[training] = ray.put((Trained(checkpoint=content), store.answers(training, artefact_of(content))))
    return models


def _points(space: Mapping[str, Any]) -> int:
    """Returns the number of points of the grid within a space."""
    grids = [value["grid_search"] for value in space.values() if isinstance(value, dict) and "grid_search" in value]
    return int(np.prod([len(grid) for grid in grids], dtype=int))
