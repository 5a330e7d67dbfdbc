"""What each Ray Train worker does: the training loop, with checkpoints that Ray keeps."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConsistencyMode
from ray.train.torch import get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from assay.cluster.memory import keep_freed_memory
from assay.cluster.streaming import Streamed
from assay.data.base import Dataset
from assay.recipes import Recipe
from assay.study.training import trainer_of
from assay.study.trial import Trial
from assay.training.cadence import Cadence
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.collective import Collective, Distributed
from assay.training.draws import Draws
from assay.training.loop import Trainer

STATE = "state.safetensors"
"""Name of a trainer's state within a checkpoint."""


class EntropyHolder:
    """Actor that keeps the random numbers of one training with ``noise: entropy``, in memory alone.

    So workers that replace dead ones repeat the lost steps with the very noise that these steps had: nothing more is
    released. If the actor dies too, it starts again with other numbers, and the lost steps count once more; see
    ``training.checkpoints.restore_trainer``.
    """

    def __init__(self) -> None:
        self._draws = Draws.from_entropy()

    def draws(self) -> Draws:
        """Returns the seed and its name."""
        return self._draws


def entropy_of(recipe: Recipe) -> Any:
    """Starts an ``EntropyHolder`` for a training, on the driver's node, which is lost with the job alone.

    Args:
        recipe: of the training.

    Returns:
        A handle of the actor; None unless the noise is from entropy.
    """
    if recipe.privacy is None or recipe.privacy.noise != "entropy":
        return None
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    holder: Any = ray.remote(EntropyHolder)
    return holder.options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1).remote()


class RayCheckpoints:
    """``Checkpoints`` that Ray Train keeps.

    Args:
        cadence: says when one is due.
        progress: queue of messages to the driver.
        first: whether this is the first worker, which stores the state that is the same on all of them.
        is_awaited: whether to wait until Ray knows the checkpoint. Otherwise it learns of it up to a second later, and
            a job that is killed meanwhile continues from the one before.
    """

    def __init__(self, cadence: Cadence, progress: Any, *, first: bool, is_awaited: bool) -> None:
        self._cadence, self._progress, self._first, self._is_awaited = cadence, progress, first, is_awaited

    def due(self, trainer: Trainer) -> bool:
        """Returns whether a checkpoint is due."""
        return self._cadence.due(trainer)

    def save(self, trainer: Trainer) -> None:
        """Stores a checkpoint. All workers wait for it; the first one reports the state."""
        self._cadence.saved(trainer)
        if trainer.step % trainer.steps_per_epoch:
            self.tell(trainer)
        metrics: dict[str, Any] = {"step": trainer.step, "epoch": trainer.epoch}
        if not self._first:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            state = trainer_state(trainer, next_by=self._cadence.next_by(trainer))
            (Path(folder) / STATE).write_bytes(state)
            ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
        if self._is_awaited:
            ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)

    def tell(self, trainer: Trainer) -> None:
        """Tells the driver how far the training is.

        Args:
            trainer: between two steps.
        """
        if self._first and trainer.losses:
            epochs = trainer.step / trainer.steps_per_epoch
            self._progress.put((epochs, trainer.total_steps / trainer.steps_per_epoch, trainer.losses[-1]))


def work(config: dict[str, Any]) -> None:
    """Runs the training loop in a worker.

    Args:
        config: what the driver tells each worker; see ``train.train_distributed``.
    """
    keep_freed_memory()
    trial: Trial = config["trial"]
    torch.set_num_threads(trial.threads)
    collective = Distributed(get_device())
    entropy = None if config["entropy"] is None else ray.get(config["entropy"].draws.remote())
    trainer = _trainer(config, collective, entropy)
    checkpoints = RayCheckpoints(
        Cadence(config["checkpoint_every"], collective),
        config["progress"],
        first=ray.train.get_context().get_world_rank() == 0,
        is_awaited=entropy is not None,
    )
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            restore_trainer(trainer, (Path(folder) / STATE).read_bytes())
    if entropy is not None and not trainer.finished:
        # Before any step: what may be lost from here on must be known to whoever continues.
        checkpoints.save(trainer)
    trainer.run(after_epoch=checkpoints.tell, checkpoints=checkpoints)


def _trainer(config: dict[str, Any], collective: Collective, entropy: Draws | None) -> Trainer:
    """Returns the trainer of this worker, before its first step."""
    dataset: Dataset = ray.get(config["data"])
    device = get_device()
    return trainer_of(
        config["trial"],
        dataset,
        config["rows"],
        device=device,
        feed=_streamed(dataset, config["rows"], device=device, readers=config["readers"]),
        held=config["held"],
        held_feed=_streamed(dataset, config["held"], device=device, readers=config["readers"]),
        collective=collective,
        entropy=entropy,
        **config["stage"],
    )


def _streamed(dataset: Dataset, rows: np.ndarray, *, device: torch.device, readers: int) -> Streamed | None:
    """Returns a stream of records that are not in memory; None for records in memory."""
    if isinstance(dataset.x, np.ndarray):
        return None
    return Streamed(dataset.x, dataset.y, rows, device=device, readers=readers)
