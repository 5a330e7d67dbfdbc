"""Assembles a trainer from a recipe, and refuses combinations that cannot work before the first step."""

import copy
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.treatment import Fit, TrainingRecords, Treated, treat
from assay.devices import repeatable
from assay.errors import IncompatibleRecipeError, TrainingError, UserError
from assay.models.representation import Represented
from assay.objectives.standard import Standard
from assay.privacy.plan import steps_per_epoch
from assay.privacy.sampling import owners_of
from assay.privacy.update import PrivateUpdate
from assay.recipes import Recipe, Training
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds
from assay.training.autocast import Bfloat16
from assay.training.collective import Alone, Collective
from assay.training.draws import Draws, draws_of
from assay.training.feed import Feed, InMemory
from assay.training.gradients import BatchGradients
from assay.training.hooks.averaging import Averaging
from assay.training.hooks.base import Hook
from assay.training.hooks.early_stopping import EarlyStopper
from assay.training.hooks.overfitting_guard import OverfittingGuard
from assay.training.hooks.probe import Probe, balanced_sample
from assay.training.loop import Trainer
from assay.training.overlap import OverlappedSums
from assay.training.update import PlainUpdate, Update


def build_trainer(
    model: nn.Module,
    recipe: Recipe,
    x: Tensor | Feed,
    y: Tensor,
    *,
    bounds: Bounds,
    seed: int,
    stage: str = "",
    classes: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    collective: Collective | None = None,
    teacher: nn.Module | None = None,
    validation: tuple[Tensor | Feed, Tensor] | None = None,
    patients: np.ndarray | None = None,
    hooks: Sequence[Hook] = (),
    task: Task = CLASSIFICATION,
    treated: Treated | None = None,
    entropy: Draws | None = None,
) -> Trainer:
    """Returns a trainer of a recipe before its first step, with the hooks that the recipe asks for.

    Where the recipe averages weights, the trainer's model holds the average as soon as training is finished, and the
    weights of the last step until then.

    Args:
        model: trained in place.
        recipe: one stage of it. Its ``federation`` is ignored here: each federated client has a trainer of its own.
        x: (n, ...) training records, on any device, before the recipe's treatments; or a ``Feed`` of them.
        y: (n,) labels.
        bounds: valid inputs, for objectives and attacks that perturb them.
        seed: of treatments and, unless the recipe says ``entropy``, of batches, crafted inputs, dropout and noise.
        stage: name of a stage before the last. Each stage draws its own batches and noise; treatments are the same in
            all stages.
        classes: number of classes; by default as many as the task needs for the labels.
        epochs: total number of passes for which a private recipe's noise is calibrated; the recipe's by default.
        steps: total number of steps, in place of passes.
        collective: the workers that share every batch; one worker by default.
        teacher: the network that the stage before trained.
        validation: records (n, ...), or a ``Feed`` of them, and labels (n,), on which early stopping measures accuracy.
        patients: (n,) ID of each record's patient, None where records have none. Where there are patients, a private
            recipe protects patients, unless its ``privacy.unit`` says otherwise.
        hooks: further hooks, called after those of the recipe. They cost no ε as long as they read no records; see
            ``training.hooks.base.Hook``.
        task: what labels are, and the loss of a record.
        treated: the records after the recipe's treatments, if they have been treated already.
        entropy: draws of an earlier trainer of this training, for ``noise: entropy``, so that steps that were lost are
            repeated with the same random numbers; new ones by default.

    Returns:
        A trainer that has taken no step.

    Raises:
        UserError: the recipe stops early, and there are no validation records; or its δ is not below 1/n, where n
            counts the patients, or records, that it protects.
        IncompatibleRecipeError: batches are to be processed in pieces, and a layer or the objective mixes their
            records, or a piece is too small for one patient; or the recipe treats all records at once, and they are
            streamed; or it protects patients, and the data name none.
        TrainingError: treatments left other records on one worker than on another.
        ValueError: two hooks have one name.
    """
    training, collective = recipe.training, collective or Alone()
    epochs = epochs or training.epochs
    if training.records_at_once is not None:
        refuse_batch_norm(model, recipe)
    if treated is None:
        about: dict[str, Any] = {"classes": classes, "bounds": bounds, "passes": epochs, "seed": seed, "task": task}
        treated = treated_records(recipe, x, y, model=model, **about)
    if treated is not None:
        x, y = (torch.from_numpy(array).to(y.device) for array in (treated.x, treated.y))
        refuse_disagreement(x, y, collective)
    draws = draws_of(recipe, seed, stage, collective, entropy)
    seed = draws.seed
    owners = owners_of(recipe, patients, records=len(x))
    units = len(x) if owners is None else int(owners.max()) + 1
    steps = steps or epochs * steps_per_epoch(units, training.batch_size)
    feed = feed_of(x, y)
    bounds = bounds.on(feed.device)
    shared: dict[str, Any] = {"bounds": bounds, "seed": seed, "collective": collective, "task": task}
    recipe_hooks = hooks_of(recipe, feed, y, validation=validation, **shared)
    overlapped = None
    if recipe.privacy is None and collective.size > 1:
        overlapped = OverlappedSums([p for p in model.parameters() if p.requires_grad], collective)
    return Trainer(
        model,
        training,
        feed=feed,
        gradients=BatchGradients(
            Bfloat16(model) if training.precision == "bf16" else model,
            recipe,
            teacher=None if teacher is None else teacher.to(feed.device),
            **shared,
        ),
        update=update_of(
            model,
            recipe,
            records=len(x),
            owners=owners,
            steps=steps,
            seed=seed,
        ),
        optimizer=optimizer_of(model, training),
        steps=steps,
        collective=collective,
        owners=owners,
        treated=treated,
        hooks=[*recipe_hooks, *hooks],
        draws=draws,
        overlapped=overlapped,
    )


def hooks_of(
    recipe: Recipe,
    feed: Feed,
    y: Tensor,
    *,
    validation: tuple[Tensor | Feed, Tensor] | None,
    bounds: Bounds,
    seed: int,
    collective: Collective,
    task: Task = CLASSIFICATION,
) -> list[Hook]:
    """Returns the hooks that a recipe asks for, in the order in which they run.

    After the last epoch, averaging puts the average into the model first. Then the overfitting guard measures the
    model, then early stopping does. So the final weights are always measured. Combinations with privacy that are
    refused are listed in ``incompatible.INCOMPATIBLE``.

    Args:
        recipe: names the hooks in ``training`` and ``objective``.
        feed: the training records.
        y: (n,) their labels.
        validation: records (n, ...), or a ``Feed`` of them, and labels (n,), for early stopping.
        bounds: valid inputs.
        seed: chooses the records that are measured, and the random numbers of attacks on them.
        collective: the workers that share every batch.
        task: decides which predictions are right.

    Returns:
        The hooks, possibly none.

    Raises:
        UserError: the recipe stops early, and there are no validation records.
    """
    training = recipe.training
    at_once = training.records_at_once or training.batch_size
    probe_of = partial(Probe, bounds=bounds, seed=seed, at_once=at_once, collective=collective, task=task)
    averaging = Averaging(training.averaging) if training.averaging else None
    hooks: list[Hook] = [] if averaging is None else [averaging]
    watch = recipe.objective.watching
    if watch is not None:
        rows = balanced_sample(y.cpu().numpy(), watch.records, generator=seeds.stream(seed, "watch"))
        hooks.append(OverfittingGuard(recipe.objective, watch, probe_of(feed, y, rows)))
    if training.early_stopping is not None:
        if validation is None or not len(validation[1]):
            raise UserError(
                "training.early_stopping looks at validation records, and there are none: let split.validation leave "
                "some and split.tested be test, or set early_stopping: null"
            )
        x, labels = validation
        probe = probe_of(feed_of(x, labels), labels, np.arange(len(labels)))
        hooks.append(EarlyStopper(training.early_stopping, probe, averaging=averaging))
    return hooks


def refuse_disagreement(x: Tensor, y: Tensor, collective: Collective) -> None:
    """Raises if the workers hold different training records after treatment.

    Each worker treats all records by itself, and the results must be equal.

    Args:
        x: (n, ...) treated records of this worker.
        y: (n,) treated labels of this worker.
        collective: all workers.

    Raises:
        TrainingError: records or labels differ between workers.
    """
    if collective.size == 1:
        return
    sha = hashlib.sha256()
    for tensor in (x, y):
        sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.cpu().numpy().tobytes())
    digest = torch.tensor(list(sha.digest()), dtype=torch.int64, device=y.device)
    (total,) = collective.sum([digest])
    # Byte by byte: if all digests are equal, the sum is the own digest times the number of workers.
    if not torch.equal(total, collective.size * digest):
        raise TrainingError(
            f"treatments of the training records left other records on this worker ({len(y)} of them) than on the "
            f"other {collective.size - 1}: the network that a treatment fits came out differently, as on unlike "
            "processors; train on one worker, on workers of one kind, or with records that were treated before"
        )


def refuse_batch_norm(model: nn.Module, recipe: Recipe) -> None:
    """Raises if a network with batch norm is to process a batch in pieces: it would normalise by one piece alone.

    Args:
        model: the network.
        recipe: sets ``training.records_at_once``.

    Raises:
        IncompatibleRecipeError: the network has a batch norm layer.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise IncompatibleRecipeError(
                f"training.records_at_once is {recipe.training.records_at_once}, but layer {name!r} "
                f"({type(layer).__name__}) mixes the records of a batch and would see a piece of it alone; set it to "
                "null, or normalise each record by itself, as norm: group of the residual networks does"
            )


def feed_of(x: Tensor | Feed, y: Tensor) -> Feed:
    """Returns a feed of records, whether they are in memory or streamed.

    Args:
        x: (n, ...) records in memory, or a ``Feed``, which is returned unchanged.
        y: (n,) labels; used only for records in memory.

    Returns:
        The feed.
    """
    return InMemory(x, y) if isinstance(x, Tensor) else x


def update_of(
    model: nn.Module, recipe: Recipe, *, records: int, owners: np.ndarray | None, steps: int, seed: int
) -> Update:
    """Returns the update of a recipe: plain, or private with clipping and noise.

    Args:
        model: the network.
        recipe: sets batch size and ``privacy``.
        records: number of training records.
        owners: (records,) number of each record's patient, from 0, where patients are protected; else None.
        steps: total number of steps, for which noise is calibrated.
        seed: of batches and noise.

    Returns:
        A ``PlainUpdate`` or a ``PrivateUpdate``.

    Raises:
        UserError: δ is not below 1/n, or no noise reaches ε.
        IncompatibleRecipeError: training is private, and a layer mixes the records of a batch.
    """
    size = recipe.training.batch_size
    if recipe.privacy is None:
        return PlainUpdate(model, records=records, batch_size=size, seed=seed)
    return PrivateUpdate(model, recipe.privacy, records=records, owners=owners, batch_size=size, steps=steps, seed=seed)


def optimizer_of(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Returns Adam or SGD over the trainable parameters.

    Args:
        model: the network.
        training: names the optimizer, its learning rate, momentum and weight decay.

    Returns:
        A fresh optimizer.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters, lr=training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )


def treated_records(
    recipe: Recipe,
    x: Tensor | Feed,
    y: Tensor,
    *,
    model: nn.Module,
    classes: int | None,
    bounds: Bounds,
    passes: int,
    seed: int,
    task: Task,
) -> Treated | None:
    """Returns records and labels after the recipe's treatments; None if no treatment changes the record set.

    Args:
        recipe: lists the treatments in ``data``.
        x: (n, ...) records, or a ``Feed`` of them.
        y: (n,) labels.
        model: the untrained network, of which treatments that need a trained one train a copy.
        classes: number of classes; by default as many as the task needs for the labels.
        bounds: valid inputs.
        passes: epochs of a training that a treatment asks for.
        seed: of the treatments.
        task: what labels are.

    Returns:
        The treated records.

    Raises:
        IncompatibleRecipeError: records are streamed, and a treatment needs all of them.
    """
    if not any(treatment.treats for treatment in recipe.data):
        return None
    if not isinstance(x, Tensor):
        raise IncompatibleRecipeError(
            "treatments of all records at once need them in memory, and these are streamed: "
            "treat them before, or use a data set that fits"
        )
    with repeatable(tf32=True):
        return treat(
            recipe.data,
            x.cpu().numpy(),
            y.cpu().numpy(),
            classes=task.outputs(y) if classes is None else classes,
            bounds=bounds,
            fit=_fit(model, recipe.training, bounds=bounds, passes=passes, device=x.device, seed=seed, task=task),
            seed=seed,
            task=task,
        )


def _fit(
    model: nn.Module,
    training: Training,
    *,
    bounds: Bounds,
    passes: int,
    device: torch.device,
    seed: int,
    task: Task,
) -> Fit:
    """Returns a function that trains a copy of the untrained network, for treatments that need one."""

    def fit(records: TrainingRecords, *, epochs: int | None = None) -> Represented:
        trainer = build_trainer(
            copy.deepcopy(model),
            Recipe(objective=Standard(), training=training.model_copy(update={"early_stopping": None})),
            torch.from_numpy(records.x).to(device),
            torch.from_numpy(records.y).to(device),
            bounds=bounds,
            seed=seeds.derive(seed, "network of a treatment"),
            epochs=epochs or passes,
            task=task,
        )
        trainer.run()
        trainer.close()
        return Represented(trainer.model)

    return fit
