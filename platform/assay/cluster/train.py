"""One trial on several Ray Train workers: the same training loop, with every batch shared among them."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn

from assay.cluster.executor import RayExecutor
from assay.cluster.memory import keep_freed_memory
from assay.cluster.messages import watched
from assay.cluster.session import describe_environment, ray_session
from assay.cluster.streaming import Streamed, readers_of
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
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.collective import Distributed
from assay.training.log import TrainingLog
from assay.training.loop import Trainer

_STATE = "state.safetensors"
_SURVIVED = 3
"""Greatest number of worker failures that one training survives."""

OnEpoch = Callable[[int, int, float], None]
"""Called with the number of finished epochs, of all epochs, and the loss."""


def run_distributed(
    trial: Trial,
    study: Study,
    dataset: Dataset,
    store: Store,
    *,
    workers: int,
    address: str | None,
    watch: OnEpoch,
    evaluating: Callable[[int, int], None],
    gpu: bool = False,
    checkpoint_every: int = 5,
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
        workers: number of Ray Train workers.
        address: see ``session.ray_session``.
        watch: called after each epoch; see ``train_distributed``.
        evaluating: called with the finished and the total number of pieces of an evaluation.
        gpu: whether each worker uses a GPU.
        checkpoint_every: epochs between checkpoints; see ``train_distributed``.
        keeper: of the ledger of the data; without one nothing is reserved or recorded.

    Returns:
        The record of the trial.

    Raises:
        IncompatibleRecipeError: the recipe is federated.
        UserError: the budget is too small, the cluster does not answer, or another job is writing the store; or see
            ``train_distributed``. Nothing is stored then.
    """
    _refuse_federated(trial)
    runner = Runner(keeper, {**describe_environment(), "ray_train_workers": workers})
    # Earlier results are read under the lock, so that no other job trains this model at the same time.
    with store.locked():
        work = remaining_work(store, trial)
        with ray_session(address, workers=workers, cpus=trial.threads):
            runner.begin(work, dataset)
            began = time.perf_counter()
            refusal: UserError | None = None
            try:
                trained = work.trained or train_distributed(
                    trial,
                    dataset,
                    workers=workers,
                    storage=f"{store.location}/ray_train",
                    watch=watch,
                    gpu=gpu,
                    checkpoint_every=checkpoint_every,
                )
                store.write_checkpoint(trial.training, trained.checkpoint)
                bare = _evaluated(work, trained, dataset, workers=workers, evaluating=evaluating)
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


def _evaluated(
    work: RemainingWork, trained: Trained, dataset: Dataset, *, workers: int, evaluating: Callable[[int, int], None]
) -> TrialRecord:
    """Evaluates a trained trial, with its test records shared among workers."""
    with RayExecutor(workers=workers, cpus=work.trial.threads) as executor:
        watched_executor = Watched(executor, evaluating)
        bare = run_trial(work.trial, watched_executor, dataset, trained=trained, known=work.known)
    return replace(bare, weights=trained.checkpoint)


def train_distributed(
    trial: Trial,
    dataset: Dataset,
    *,
    workers: int,
    storage: str,
    watch: OnEpoch,
    gpu: bool = False,
    checkpoint_every: int = 5,
) -> Trained:
    """Trains a recipe with its batches spread over Ray Train workers.

    The workers sum their gradients explicitly (gloo on CPU, NCCL on GPU), so the result is that of one worker up to the
    order of floating-point sums. If a worker dies, the epochs since the last checkpoint that Ray registered are
    repeated. A
    job that was killed continues from there when it is called again with the same ``storage``. Records that do not fit
    into
    memory are streamed, each worker its share of every batch: see ``cluster.streaming``.

    Args:
        trial: the trial.
        dataset: its data set.
        workers: number of Ray Train workers.
        storage: absolute folder or URI that every node can reach.
        watch: called after each epoch with its number, the number of all epochs, and the mean loss of the first
            worker's records.
        gpu: whether each worker uses a GPU.
        checkpoint_every: epochs between checkpoints; each takes a second or two, since all workers synchronise.

    Returns:
        The trained model.

    Raises:
        IncompatibleRecipeError: the recipe is federated, and its data may not be spread over workers; or it treats all
            records at once, and they are streamed; or the network mixes the records of a batch, which workers share.
        UserError: a record cannot be decoded, after all attempts.
    """
    _refuse_federated(trial)
    dataset, parts = prepare_records(trial, dataset)
    if workers > 1:
        _refuse_batch_norm(network_of(trial, dataset)(), workers)
    shared = {
        "trial": trial,
        "data": ray.put(dataset),
        "rows": parts.train,
        "held": parts.validation,
        "readers": readers_of(workers),
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
        with watched(watch) as queue:
            config = {**shared, "stage": {"recipe": recipe, "stage": stage, "teacher": teacher}, "progress": queue}
            state = _last_state(_workers(config, workers=workers, gpu=gpu, storage=storage))
        restore_trainer(trainer, state)
        trainer.close()
        return trainer.model, log_of(trainer, workers=workers)

    return Trained.of(*in_stages(trial.recipe, train))


def _workers(config: dict[str, Any], *, workers: int, gpu: bool, storage: str) -> TorchTrainer:
    """Returns the workers of one stage of a training; they continue from an earlier job's checkpoint."""
    trial, stage = config["trial"], config["stage"]["stage"]
    return TorchTrainer(
        _work,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker=None if gpu else {"CPU": trial.threads}
        ),
        run_config=RunConfig(
            name=f"{trial.training}-{workers}" + (f"-{stage.replace(' ', '-')}" if stage else ""),
            storage_path=storage,
            failure_config=FailureConfig(max_failures=_SURVIVED),
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
    except ray.train.TrainingFailedError as error:
        for failure in getattr(error, "worker_failures", {}).values():
            if isinstance(failure, UserError):
                raise failure from None
        raise
    with checkpoint.as_directory() as folder:
        return (Path(folder) / _STATE).read_bytes()


def _work(config: dict) -> None:
    """Runs the training loop in a worker."""
    keep_freed_memory()
    trial: Trial = config["trial"]
    torch.set_num_threads(trial.threads)
    device = get_device()
    dataset: Dataset = ray.get(config["data"])
    trainer = trainer_of(
        trial,
        dataset,
        config["rows"],
        device=device,
        feed=_streamed(dataset, config["rows"], device=device, readers=config["readers"]),
        held=config["held"],
        held_feed=_streamed(dataset, config["held"], device=device, readers=config["readers"]),
        collective=Distributed(device),
        **config["stage"],
    )
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            restore_trainer(trainer, (Path(folder) / _STATE).read_bytes())
    first = ray.train.get_context().get_world_rank() == 0

    def after_epoch(trainer: Trainer) -> None:
        if first:
            config["progress"].put((trainer.epoch, trainer.total_steps // trainer.steps_per_epoch, trainer.losses[-1]))
        if trainer.finished or trainer.epoch % config["checkpoint_every"] == 0:
            _report(trainer, first=first)

    trainer.run(after_epoch=after_epoch)


def _streamed(dataset: Dataset, rows: np.ndarray, *, device: torch.device, readers: int) -> Streamed | None:
    """Returns a stream of records that are not in memory; None for records in memory."""
    if isinstance(dataset.x, np.ndarray):
        return None
    return Streamed(dataset.x, dataset.y, rows, device=device, readers=readers)


def _report(trainer: Trainer, *, first: bool) -> None:
    """Synchronises all workers; the first one reports the state, which is the same on all of them."""
    metrics = {"epoch": trainer.epoch, "loss": trainer.losses[-1]}
    if not first:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _STATE).write_bytes(trainer_state(trainer))
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
