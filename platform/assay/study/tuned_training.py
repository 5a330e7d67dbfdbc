"""Trains the points of a tuned recipe and keeps the best on the validation records."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from assay import progress
from assay.data.base import Dataset
from assay.data.splits import Split
from assay.devices import device
from assay.errors import DataError
from assay.recipes import EarlyStopping
from assay.study.training import feed_of_dataset, train_alone
from assay.training.build import feed_of
from assay.training.collective import Alone
from assay.training.hooks.early_stopping import under_pgd
from assay.training.hooks.probe import Probe
from assay.training.log import TrainingLog

if TYPE_CHECKING:
    from assay.study.trial import Trial


def train_tuned(trial: "Trial", dataset: Dataset, parts: Split) -> tuple[nn.Module, TrainingLog]:
    """Trains every point on the training records, and returns the best on the validation records.

    Of equally good points the first is kept; the first of all is the recipe as it stands.

    Args:
        trial: with the recipe and how it is tuned.
        dataset: prepared.
        parts: positions of the records.

    Returns:
        The network, and the log of its training with all points.

    Raises:
        DataError: there are no validation records.
    """
    assert trial.tuned is not None
    if not len(parts.validation):
        raise DataError(
            "tuned compares points on validation records, and this split leaves none: raise split.validation",
            setting="split.validation",
            given=0,
        )
    best: tuple[nn.Module, TrainingLog] | None = None
    points = trial.tuned.points_of(trial.recipe, seed=trial.seed)
    tried: list[dict[str, Any]] = []
    for number, training in enumerate(points):
        point = replace(trial, recipe=trial.recipe.model_copy(update={"training": training}), tuned=None)
        with progress.step(f"point {number + 1} of {len(points)}"):
            model, log = train_alone(point, dataset, parts.train, held=parts.validation)
            value = _accuracy(trial, dataset, parts, model)
        if not tried or value > max(one["value"] for one in tried):
            best = model, log
        changed = training.model_dump(mode="json", include={"learning_rate", "batch_size", "epochs"})
        tried.append({**changed, "value": value, "seconds": log.seconds})
    assert best is not None
    return best[0], replace(best[1], tuned=tried)


def _accuracy(trial: "Trial", dataset: Dataset, parts: Split, model: nn.Module) -> float:
    """Returns the accuracy on the validation records, under PGD where the settings say so."""
    assert trial.tuned is not None
    rows = parts.validation
    brought = feed_of_dataset(dataset, rows, device())
    y = torch.from_numpy(dataset.y[rows]).to(device())
    probe = Probe(
        feed_of(brought, y),
        y,
        np.arange(len(rows)),
        bounds=dataset.bounds.on(device()),
        seed=trial.trial_seed,
        at_once=256,
        collective=Alone(),
        task=trial.task,
    )
    asked = EarlyStopping(epsilon=trial.tuned.epsilon, norm=trial.tuned.norm, steps=trial.tuned.steps)
    return probe.accuracy(model, under_pgd(asked))
