"""The parts of a trainer: update, optimiser, feed, and what is refused before the first step."""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError, TrainingError
from assay.privacy.update import PrivateUpdate
from assay.recipes import Recipe, Training
from assay.training.collective import Collective
from assay.training.feed import Feed, InMemory
from assay.training.update import PlainUpdate, Update


def refuse_disagreement(x: Tensor, y: Tensor, collective: Collective) -> None:
    """Refuse to train where workers, each of which treats all records by itself, are left with different ones."""
    if collective.size == 1:
        return
    sha = hashlib.sha256()
    for tensor in (x, y):
        sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.cpu().numpy().tobytes())
    own = torch.tensor(list(sha.digest()), dtype=torch.int64, device=y.device)
    (total,) = collective.sum([own])
    # Byte by byte: a worker that differs from the others sees a sum that is not its own times their number.
    if not torch.equal(total, collective.size * own):
        raise TrainingError(
            f"treatments of the training records left other records on this worker ({len(y)} of them) than on the "
            f"other {collective.size - 1}: the network that a treatment fits came out differently, as on unlike "
            "processors; train on one worker, on workers of one kind, or with records that were treated before"
        )


def refuse_batch_norm(model: nn.Module, recipe: Recipe) -> None:
    """Refuse batch norm where a batch is worked off in pieces: it would see one piece alone."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise IncompatibleRecipeError(
                f"training.records_at_once is {recipe.training.records_at_once}, but layer {name!r} "
                f"({type(layer).__name__}) mixes the records of a batch and would see a piece of it alone; set it to "
                "null, or normalise each record by itself, as norm: group of the residual networks does"
            )


def feed_of(x: Tensor | Feed, y: Tensor) -> Feed:
    """Records that arrive in batches, whether they lie in memory or are streamed."""
    return InMemory(x, y) if isinstance(x, Tensor) else x


def update_of(
    model: nn.Module, recipe: Recipe, *, records: int, owners: np.ndarray | None, steps: int, seed: int
) -> Update:
    """Plain gradients, or clipped and noised ones, as the recipe says."""
    size = recipe.training.batch_size
    if recipe.privacy is None:
        return PlainUpdate(model, records=records, batch_size=size, seed=seed)
    return PrivateUpdate(model, recipe.privacy, records=records, owners=owners, batch_size=size, steps=steps, seed=seed)


def optimizer_of(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Adam or SGD over what may be trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters, lr=training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )


def learning_rate_at(training: Training, step: int, steps: int) -> float:
    """The learning rate of one step of so many."""
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
