"""One trial on several Ray Train workers: the same training loop, with every batch shared among them."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn

from assay.cluster.executor import RayExecutor
from assay.cluster.messages import watched
from assay.cluster.resources import TRAINING_WORKER, Reservation, gpus_for, living_nodes, refuse_impossible
from assay.cluster.scaling import WorkerRange
from assay.cluster.session import describe_environment, joins_cluster, ray_session
from assay.cluster.streaming import readers_of
from assay.cluster.train_worker import STATE, entropy_of, work
from assay.data.base import Dataset
from assay.errors import IncompatibleRecipeError, UserError
from assay.executors import Watched
from assay.recipes import Recipe
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.measure import failed, run_trial
from assay.study.run import write_study
from assay.study.runner import RemainingWork, Runner, TrialObserver, remaining_work
from assay.study.spec import Study
from assay.study.training import Trained, in_stages, log_of, network_of, prepare_records, trainer_of
from assay.study.trial import Trial
from assay.training.cadence import Every
from assay.training.checkpoints import restore_trainer
from assay.training.log import TrainingLog

_STARTS = 10
"""Attempts to start the workers, each of a minute, over a whole training; without a limit Ray tries for ever."""
_SURVIVED = 3
"""Greatest number of worker failures that one training survives; machines that a cloud takes back do not count."""
_KEPT = 2
"""Checkpoints that are kept: the last one, and one before it for the time in which Ray learns of the last."""
CHECKPOINT_EVERY = Every(count=10, unit="minutes")
RESIZE_SECONDS = 60.0
"""Seconds between two looks at whether the cluster has room for more workers."""

OnProgress = Callable[[float, float, float], None]
"""Called with the number of epochs so far, of all epochs, and the mean loss of the last one."""


def run_distributed(
    trial: Trial,
    study: Study,
    dataset: Dataset,
    store: Store,
    *,
    workers: int | WorkerRange,
    address: str | None,
    watch: OnProgress,
    evaluating: Callable[[int, int], None],
    gpu: bool = False,
    checkpoint_every: Every = CHECKPOINT_EVERY,
    keeper: TrialObserver | None = None,
) -> TrialRecord:
    """Trains a trial on several Ray Train workers, evaluates it on as many, and stores it as the only result.

    A failure inside the trial is returned as a record with the reason, not raised; it replaces no earlier finished
    record.

    Args:
        trial: the trial.
        study: whose only trial it is.
        dataset: its data set.
        store: of the results.
        workers: number of Ray Train workers, or the range in which it may change.
        address: see ``session.ray_session``.
        watch: called after each epoch and each checkpoint; see ``train_distributed``.
        evaluating: called with the finished and the total number of pieces of an evaluation.
        gpu: whether each worker uses a GPU.
        checkpoint_every: distance of two checkpoints; see ``train_distributed``.
        keeper: of the ledger of the data; without one nothing is reserved or recorded.

    Returns:
        The record of the trial.

    Raises:
        IncompatibleRecipeError: the recipe is federated.
        UserError: the budget is too small, the cluster does not answer, or another job is writing the store; or see
            ``train_distributed``. Nothing is stored then.
    """
    _refuse_federated(trial)
    _refuse_gpu_of_cpu(trial, gpu=gpu)
    asked = WorkerRange.of(workers)
    recorded = str(asked) if asked.is_elastic else asked.most
    runner = Runner(keeper, {**describe_environment(), "ray_train_workers": recorded})
    # Earlier results are read under the lock, so that no other job trains this model at the same time.
    with store.locked():
        remaining = remaining_work(store, trial)
        with ray_session(address, workers=asked.most, cpus=trial.threads):
            if gpu:
                wanted = Reservation(cpus=1, gpus=1)
                refuse_impossible(wanted, living_nodes(), grows=joins_cluster(address), asker=TRAINING_WORKER)
            runner.begin(remaining, dataset)
            began = time.perf_counter()
            refusal: UserError | None = None
            train = partial(train_distributed, workers=asked, watch=watch, gpu=gpu, checkpoint_every=checkpoint_every)
            try:
                bare = _trained_and_evaluated(
                    remaining, dataset, store, train, workers=asked.most, evaluating=evaluating
                )
            except Exception as error:
                refusal = error if isinstance(error, UserError) else None
                bare = failed(trial, error, time.perf_counter() - began)
            record = runner.end(trial, bare, dataset)
        if refusal is not None:
            raise refusal
        if not record.failed or trial.id not in store.finished():
            store.keep_only([trial.id])
            write_study(study, store, {trial.id: trial.label}, runner.environment)
            store.write(record)
    return record


def _trained_and_evaluated(
    remaining: RemainingWork,
    dataset: Dataset,
    store: Store,
    train: Callable[..., Trained],
    *,
    workers: int,
    evaluating: Callable[[int, int], None],
) -> TrialRecord:
    """Trains a trial unless it has a model, stores the model, and evaluates it on all workers.

    Args:
        train: ``train_distributed`` with its settings.
    """
    trial = remaining.trial
    trained = remaining.trained or train(trial, dataset, storage=f"{store.location}/ray_train")
    store.write_checkpoint(trial.training, trained.checkpoint)
    # By default its workers would share the GPUs of the cluster.
    with RayExecutor(workers=workers, cpus=trial.threads, gpus=gpus_for([trial.device], None)) as executor:
        watched_executor = Watched(executor, evaluating)
        bare = run_trial(trial, watched_executor, dataset, trained=trained, known=remaining.known)
    return replace(bare, weights=trained.checkpoint)


def train_distributed(
    trial: Trial,
    dataset: Dataset,
    *,
    workers: int | WorkerRange,
    storage: str,
    watch: OnProgress,
    gpu: bool = False,
    checkpoint_every: Every = CHECKPOINT_EVERY,
    resize_seconds: float = RESIZE_SECONDS,
) -> Trained:
    """Trains a recipe with its batches spread over Ray Train workers.

    The workers sum their gradients (gloo on CPU, NCCL on GPU), so the result is that of one worker up to the order of
    floating-point sums, also if their number changes. If a worker dies, or more workers join, the steps since the last
    checkpoint that Ray registered are repeated. A job that was killed continues from there when it is called again with
    the same ``storage``, with any number of workers. Records that do not fit into memory are streamed, each worker its
    share of every batch: see ``cluster.streaming``.

    Args:
        trial: the trial.
        dataset: its data set.
        workers: number of Ray Train workers; of a range, as many as the cluster has room for.
        storage: absolute folder or URI that every node can reach.
        watch: called after each epoch, and with each checkpoint within one, with the number of epochs so far, of all
            epochs, and the mean loss of the last one.
        gpu: whether each worker uses a GPU.
        checkpoint_every: distance of two checkpoints; each takes a second or two, since all workers synchronise.
        resize_seconds: between two looks at whether a range allows more workers than there are.

    Returns:
        The trained model.

    Raises:
        IncompatibleRecipeError: the recipe is federated, and its data may not be spread over workers; or it treats all
            records at once, and they are streamed; or the network mixes the records of a batch, which workers share.
        UserError: a record cannot be decoded, after all attempts.
    """
    _refuse_federated(trial)
    workers = WorkerRange.of(workers)
    dataset, parts = prepare_records(trial, dataset)
    if workers.most > 1:
        _refuse_batch_norm(network_of(trial, dataset)(), workers.most)
    shared = {
        "trial": trial,
        "data": ray.put(dataset),
        "rows": parts.train,
        "held": parts.validation,
        "readers": readers_of(workers.most),
        "checkpoint_every": checkpoint_every,
    }

    def train(recipe: Recipe, stage: str, teacher: nn.Module | None) -> tuple[nn.Module, TrainingLog]:
        # Built before any worker starts, so that invalid settings are refused at once.
        trainer = trainer_of(
            trial,
            dataset,
            parts.train,
            recipe=recipe,
            device=torch.device("cpu"),
            held=parts.validation,
            stage=stage,
        )
        entropy = entropy_of(recipe)
        with watched(watch) as queue:
            about = {"recipe": recipe, "stage": stage, "teacher": teacher}
            config = {**shared, "stage": about, "entropy": entropy, "progress": queue}
            scaling = _scaling(workers, threads=trial.threads, gpu=gpu, resize_seconds=resize_seconds)
            state = _last_state(_workers(config, scaling=scaling, storage=storage))
        restore_trainer(trainer, state)
        trainer.close()
        return trainer.model, log_of(trainer, workers=max(trainer.pace.speeds, default=workers.most))

    return Trained.of(*in_stages(trial.recipe, train))


def _scaling(workers: WorkerRange, *, threads: int, gpu: bool, resize_seconds: float) -> ScalingConfig:
    """Returns the number of workers and what each reserves, as Ray Train reads it."""
    return ScalingConfig(
        num_workers=(workers.least, workers.most) if workers.is_elastic else workers.most,
        use_gpu=gpu,
        resources_per_worker=None if gpu else {"CPU": threads},
        elastic_resize_monitor_interval_s=resize_seconds,
    )


def _workers(config: dict[str, Any], *, scaling: ScalingConfig, storage: str) -> TorchTrainer:
    """Returns the workers of one stage of a training; they continue from an earlier job's checkpoint.

    Neither the number of workers nor the cadence of checkpoints names the run: another job may continue with others.
    """
    trial, stage = config["trial"], config["stage"]["stage"]
    return TorchTrainer(
        work,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        scaling_config=scaling,
        run_config=RunConfig(
            name=trial.training + (f"-{stage.replace(' ', '-')}" if stage else ""),
            storage_path=storage,
            failure_config=FailureConfig(max_failures=_SURVIVED, controller_failure_limit=_STARTS - 1),
            checkpoint_config=CheckpointConfig(num_to_keep=_KEPT),
        ),
    )


def _refuse_federated(trial: Trial) -> None:
    if trial.recipe.federation is not None:
        raise IncompatibleRecipeError(
            f"recipe {trial.recipe_name!r} is federated: its clients keep their records, so Ray Train cannot spread "
            "them over workers; run it with jobs.study, which places the clients on the pool",
            setting="recipe",
            given=trial.recipe_name,
            allowed="jobs.study",
        )


def _refuse_gpu_of_cpu(trial: Trial, *, gpu: bool) -> None:
    if gpu and trial.device == "cpu":
        raise UserError(
            f"--gpu asks for a GPU for each worker, and cohorts.{trial.cohort}.device is cpu: leave --gpu out, or add "
            f"--set cohorts.{trial.cohort}.device=gpu",
            setting="--gpu",
            given=True,
            allowed=False,
        )


def _refuse_batch_norm(network: nn.Module, workers: int) -> None:
    """Refuses batch norm on several workers: only gradients are summed, so its statistics would differ."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise IncompatibleRecipeError(
                f"layer {name!r} ({type(layer).__name__}) mixes the records of a batch, and each of {workers} workers "
                "would see its own share alone; use one worker, or normalise each record by itself, as norm: group of "
                "the residual networks does",
                setting="model",
                given=name,
                allowed=1,
            )


def _last_state(trainer: TorchTrainer) -> bytes:
    """Runs the workers and returns the final state; raises a user's error as it was raised in a worker."""
    try:
        checkpoint = trainer.fit().checkpoint
    except ray.train.ControllerError as error:
        raise UserError(
            f"the workers of the training could not start or go on, in {_STARTS} attempts of a minute: {error}. Start "
            "machines or ask for their quota, end other jobs, or lower --workers; the same command goes on from the "
            "last checkpoint",
            setting="--workers",
        ) from None
    except ray.train.TrainingFailedError as error:
        for failure in getattr(error, "worker_failures", {}).values():
            if isinstance(failure, UserError):
                raise failure from None
        raise
    with checkpoint.as_directory() as folder:
        return (Path(folder) / STATE).read_bytes()
