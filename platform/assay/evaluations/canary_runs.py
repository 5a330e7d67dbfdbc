"""Trainings with canaries: who of them was in, and what an auditor makes of what each training released."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.base import Dataset
from assay.evaluations.base import Subject
from assay.evaluations.pool import confidence
from assay.privacy.accounting import Mechanism
from assay.privacy.auditing import Moved, log_likelihood_ratio, moved
from assay.recipes import Recipe
from assay.training.canaries import Numbered, Planted, numbered_bounds
from assay.training.feed import Decoded, Feed, InMemory
from assay.training.loop import Trainer

Watch = Callable[[int, int], None]
"""Told of finished epochs, and of how many there are."""
_TABLES_A_LAYER = 3


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one training with canaries left behind."""

    scores: np.ndarray
    """(m,)"""
    inside: np.ndarray
    """(m,) bool."""
    mechanism: Mechanism | None
    """What all stages together spent; None if nothing is private."""
    records: int
    """Real ones."""
    moved: Moved | None = None
    """None where it is not known what a canary should move, or fewer than two are in, or out."""
    notes: tuple[str, ...] = ()


def in_gradients(subject: Subject, *, canaries: int, watch: Watch | None) -> Evidence:
    """Scores from what every step released along the direction of each canary, over all stages of the recipe."""
    dataset, rows = subject.dataset, subject.split.train
    inside = _coins(subject, canaries)
    recipe = _audited_recipe(subject, canaries=int(inside.sum()))
    feed = Planted(_feed(dataset, dataset.y, rows, subject.device), np.flatnonzero(inside) + 1)
    y = feed.labels(torch.from_numpy(dataset.y[rows]).to(subject.device))
    words = dataset.tokens is not None
    bounds = dataset.bounds if words else numbered_bounds(dataset.bounds, dataset.shape, canaries=canaries)
    auditor = _Auditor(subject, recipe, canaries)
    mechanism = _train(
        subject, recipe, feed, y, bounds=bounds, network=auditor.network, listen=auditor.listen, watch=watch
    )[1]
    return Evidence(
        scores=auditor.scores,
        inside=inside,
        mechanism=mechanism,
        records=len(rows),
        moved=auditor.moved(inside),
    )


class _Auditor:
    """Plants canaries in the networks of a recipe, and reads every gradient that training releases.

    Args:
        recipe: a private one.
    """

    def __init__(self, subject: Subject, recipe: Recipe, canaries: int) -> None:
        assert recipe.privacy is not None
        self._subject, self._privacy, self._canaries = subject, recipe.privacy, canaries
        self._sums, self._expected = np.zeros(canaries), 0.0
        self.scores = np.zeros(canaries)
        """Log likelihood ratio of in to out for each canary, over all steps so far."""

    def network(self, stage: int) -> Numbered:
        assert self._subject.network is not None
        bare = self._subject.network()
        made = Numbered(
            bare,
            canaries=self._canaries,
            classes=self._subject.dataset.classes,
            max_grad_norm=self._privacy.max_grad_norm,
            tables=_TABLES_A_LAYER * _layers(bare) if self._privacy.clipping == "per_layer" else 1,
            stage=stage,
        )
        return made.to(self._subject.device)

    def listen(self, trainer: Trainer) -> None:
        """Read what every step of a training releases."""
        assert isinstance(trainer.model, Numbered)
        model, mechanism = trainer.model, trainer.mechanism
        assert mechanism is not None
        norms = mechanism.sample_rate * trainer.records / self._privacy.max_grad_norm
        tables = len(model.tables)
        signal = math.sqrt(tables / (tables + _layers(model.network))) if tables > 1 else 1.0

        def read(*_: Any) -> None:
            released = norms * model.released().double().cpu().numpy()
            self._sums += released
            self._expected += mechanism.sample_rate * signal
            self.scores += log_likelihood_ratio(
                released,
                signal=signal,
                noise_multiplier=mechanism.noise_multiplier,
                sample_rate=mechanism.sample_rate,
            )

        trainer.optimizer.register_step_pre_hook(read)

    def moved(self, inside: np.ndarray) -> Moved | None:
        """How far a canary moved a step, in parts of how far it should; None with fewer than two in, or out."""
        return moved(self._sums, inside, expected=self._expected) if min(inside.sum(), (~inside).sum()) > 1 else None


def in_inputs(subject: Subject, *, canaries: int, watch: Watch | None) -> Evidence:
    """Scores from how much surer the last model is of each canary's wrong label than the first one was."""
    dataset, held = subject.dataset, held_out(subject)
    generator = seeds.stream(subject.seed, "audit", "canaries")
    rows = np.sort(generator.permutation(held)[:canaries])
    y = dataset.y.copy()
    y[rows] = (y[rows] + generator.integers(1, dataset.classes, len(rows))) % dataset.classes
    inside = _coins(subject, len(rows))
    recipe = _audited_recipe(subject, canaries=int(inside.sum()))
    learnt_from = np.concatenate([subject.split.train, rows[inside]])
    feed = _feed(dataset, y, learnt_from, subject.device)
    labels = torch.from_numpy(y[learnt_from]).to(subject.device)
    mistaken = replace(subject, dataset=replace(dataset, y=y))

    def network(stage: int) -> nn.Module:
        assert subject.network is not None
        return subject.network().to(subject.device)

    model, mechanism = _train(subject, recipe, feed, labels, bounds=dataset.bounds, network=network, watch=watch)
    first = network(0).eval()
    scores = confidence(replace(mistaken, model=model), rows) - confidence(replace(mistaken, model=first), rows)
    fewer = f"{len(rows)} records were held out, so there are no more canaries than these; asked for {canaries}"
    return Evidence(
        scores=scores,
        inside=inside,
        mechanism=mechanism,
        records=len(subject.split.train),
        notes=(fewer,) if len(rows) < canaries else (),
    )


def _train(
    subject: Subject,
    recipe: Recipe,
    feed: Feed,
    y: Tensor,
    *,
    bounds: Any,
    network: Callable[[int], nn.Module],
    listen: Callable[[Trainer], None] | None = None,
    watch: Watch | None = None,
) -> tuple[nn.Module, Mechanism | None]:
    """The recipe, its teachers first, by the trainer that trains all models; the last network, and all that was spent.

    Args:
        network: makes the one of a stage, numbered from 0.
        listen: is handed the trainer of each stage before it starts.
    """
    model: nn.Module | None = None
    spent: Mechanism | None = None
    stages = recipe.stages()
    assert subject.recipe is not None
    passes = subject.recipe.passes
    for number, stage in enumerate(stages):
        trainer = Trainer(
            network(number),
            stage,
            feed,
            y,
            bounds=bounds,
            seed=seeds.derive(subject.seed, "audit"),
            stage="" if number + 1 == len(stages) else f"teacher {number + 1}",
            classes=subject.dataset.classes,
            epochs=passes,
            teacher=model,
        )
        if listen is not None:
            listen(trainer)
        done = number * passes

        def told(trainer: Trainer, done: int = done) -> None:
            if watch is not None:
                watch(done + trainer.epoch, passes * len(stages))

        trainer.run(after_epoch=told)
        trainer.close()
        model, own = trainer.model, trainer.mechanism
        spent = own if spent is None or own is None else spent.then(own)
    assert model is not None
    return model.eval(), spent


def _audited_recipe(subject: Subject, *, canaries: int) -> Recipe:
    """In one place, to the end, with noise that can be drawn again.

    Batches grow with the records, so that as many steps draw a record with the same probability as without canaries.
    """
    recipe, records = subject.recipe, len(subject.split.train)
    assert recipe is not None
    batch_size = math.ceil(recipe.training.batch_size * (records + canaries) / records)
    return recipe.model_copy(
        update={
            "federation": None,
            "privacy": recipe.privacy and recipe.privacy.model_copy(update={"noise": "seeded"}),
            "training": recipe.training.model_copy(update={"early_stopping": None, "batch_size": batch_size}),
        }
    )


def _coins(subject: Subject, canaries: int) -> np.ndarray:
    return np.asarray(seeds.stream(subject.seed, "audit", "coins").random(canaries) < 0.5)


def held_out(subject: Subject) -> np.ndarray:
    """Positions of the records that training never sees."""
    return np.concatenate([subject.split.test, subject.split.validation, subject.split.calibration])


def _feed(dataset: Dataset, y: np.ndarray, rows: np.ndarray, device: torch.device) -> Feed:
    if isinstance(dataset.x, np.ndarray):
        return InMemory(torch.from_numpy(dataset.x[rows]).to(device), torch.from_numpy(y[rows]).to(device))
    return Decoded(dataset.x, y, rows, device=device)


def _layers(model: nn.Module) -> int:
    """About as many as clipping by layer tells apart."""
    return sum(any(p.requires_grad for p in layer.parameters(recurse=False)) for layer in model.modules())
