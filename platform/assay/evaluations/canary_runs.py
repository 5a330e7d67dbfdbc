"""Trainings with canaries: which canaries were in, and the score of each from what the training released."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.base import Dataset
from assay.evaluations.pool import confidence
from assay.evaluations.subject import Subject
from assay.privacy.accounting import Mechanism
from assay.privacy.auditing import Moved, log_likelihood_ratio, moved
from assay.privacy.noise_levels import NoiseRecord
from assay.privacy.unit import protected
from assay.recipes import Recipe
from assay.training.build import build_trainer
from assay.training.canaries import InTensors, Numbered, Planted, numbered_bounds
from assay.training.feed import Decoded, Feed, InMemory
from assay.training.loop import Trainer
from assay.training.recorder import PrivateRunRecorder

OnCanaryEpoch = Callable[[int, int], None]
"""Called after each epoch with the number of finished epochs and of all epochs."""
_TABLES_A_LAYER = 3
"""Tables of canaries for each layer of the network, where each layer is clipped by itself."""
_IN_TENSORS = 10
"""One canary in this many is a coordinate of the network's own tensors; more are, where each tensor needs one."""
_FIRST_EPOCHS = 8
"""Epochs whose noise is compared with that of another training."""
_SURE = 1e-6
"""Significance at which a tensor has less noise than claimed, so that its canaries are judged by its actual noise."""


@dataclass(frozen=True, kw_only=True)
class CanaryScores:
    """Result of one training with canaries."""

    scores: np.ndarray
    """(m,) score of each canary; greater means more likely in."""
    inside: np.ndarray
    """(m,) bool, whether each canary was in."""
    mechanism: Mechanism | None
    """The privacy mechanism of all stages together; None if nothing is private."""
    records: int
    """Number of real records."""
    moved: Moved | None = None
    """Effect of a canary on a step; None where the expected effect is unknown, or fewer than two are in, or out."""
    recorder: PrivateRunRecorder | None = None
    """Observations of each step; None where only the last model was used."""
    in_tensors: int = 0
    """How many of the canaries, the last ones, are coordinates of the network's own tensors."""
    notes: tuple[str, ...] = ()


def in_gradients(subject: Subject, *, canaries: int, watch: OnCanaryEpoch | None) -> CanaryScores:
    """Scores canaries by what every step released along their directions, over all stages of the recipe.

    Args:
        subject: with a private recipe.
        canaries: how many.
        watch: called after each epoch, or None.

    Returns:
        Scores and observations.
    """
    auditor, inside, mechanism = _audited(subject, canaries, noise="seeded", watch=watch)
    return CanaryScores(
        scores=auditor.scores(),
        inside=inside,
        mechanism=mechanism,
        records=len(subject.split.train),
        moved=auditor.moved(inside),
        recorder=auditor.recorder,
        in_tensors=auditor.in_tensors,
    )


def noise_of_first_epochs(subject: Subject, *, canaries: int = 10) -> tuple[NoiseRecord, Mechanism]:
    """Records the noise of the first epochs of a private recipe, with the noise that the recipe sets.

    Args:
        subject: with a private recipe.
        canaries: how many.

    Returns:
        The noise, and the claimed mechanism.
    """
    recipe = subject.recipe
    assert recipe is not None
    epochs = min(recipe.passes, _FIRST_EPOCHS)
    training = recipe.training.model_copy(update={"epochs": epochs})
    short = recipe.model_copy(update={"federation": None, "training": training})
    auditor, _, mechanism = _audited(replace(subject, recipe=short), canaries, noise=None)
    assert mechanism is not None
    assert auditor.recorder.noise is not None
    return auditor.recorder.noise, mechanism


def _audited(
    subject: Subject, canaries: int, *, noise: str | None, watch: OnCanaryEpoch | None = None
) -> tuple["_Auditor", np.ndarray, Mechanism | None]:
    """Trains a private recipe with canaries in gradients.

    Args:
        noise: see ``_audited_recipe``.

    Returns:
        The auditor that read the training; (canaries,) bool, which of them were in; the mechanism of all stages
        together.
    """
    dataset, rows = subject.dataset, subject.split.train
    inside = _coins(subject, canaries)
    numbers = np.flatnonzero(inside) + 1
    recipe = _audited_recipe(subject, canaries=len(numbers), noise=noise)
    feed = Planted(_feed(dataset, dataset.y, rows, subject.device), numbers)
    words = dataset.tokens is not None
    auditor = _Auditor(subject, recipe, canaries, numbers)
    _, mechanism = _train(
        subject,
        recipe,
        feed,
        feed.labels(torch.from_numpy(dataset.y[rows]).to(subject.device)),
        bounds=dataset.bounds if words else numbered_bounds(dataset.bounds, dataset.shape, canaries=canaries),
        network=auditor.network,
        patients=_patients(subject, len(numbers)),
        listen=auditor.listen,
        watch=watch,
    )
    return auditor, inside, mechanism


class _Auditor:
    """Plants canaries in the networks of a recipe, and reads every gradient that training releases.

    Args:
        recipe: a private one.
        canaries: in tables, and in the network's own tensors.
        numbers: of the canaries that are in, each from 1, in their order after the real records.
    """

    def __init__(self, subject: Subject, recipe: Recipe, canaries: int, numbers: np.ndarray) -> None:
        assert recipe.privacy is not None
        assert subject.network is not None
        self._subject, self._privacy, self._canaries, self._numbers = subject, recipe.privacy, canaries, numbers
        self._real = len(subject.split.train)
        bare = subject.network()
        self._tables = _TABLES_A_LAYER * _layers(bare) if self._privacy.clipping == "per_layer" else 1
        self._signal = math.sqrt(self._tables / (self._tables + _layers(bare))) if self._tables > 1 else 1.0
        sizes = [p.numel() for p in bare.parameters() if p.requires_grad]
        free = sum(-(-size // 2) for size in sizes)
        self.in_tensors = min(canaries // 2, free, max(canaries // _IN_TENSORS, len(sizes)))
        self._length = 1.0 if self._tables == 1 else (self._tables + _layers(bare)) ** -0.5
        self._planted = InTensors(
            sizes,
            1 + np.arange(canaries)[canaries - self.in_tensors :],
            length=self._length * self._privacy.max_grad_norm,
            generator=seeds.stream(subject.seed, "audit", "coordinates"),
        )
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self._sums, self._expected = np.zeros(canaries - self.in_tensors), 0.0
        self._scores = np.zeros(canaries - self.in_tensors)
        self._released: list[np.ndarray] = []
        self._drawn = numbers[:0]
        self._mechanism: Mechanism | None = None
        self.recorder = PrivateRunRecorder(
            self._privacy,
            recipe.training,
            real=self._real,
            seed=seeds.derive(subject.seed, "audit", "recorder"),
            inject=self._inject,
        )

    def network(self, stage: int) -> Numbered:
        assert self._subject.network is not None
        made = Numbered(
            self._subject.network(),
            canaries=self._canaries,
            classes=self._subject.dataset.classes,
            max_grad_norm=self._privacy.max_grad_norm,
            tables=self._tables,
            stage=stage,
            elsewhere=self.in_tensors,
        )
        return made.to(self._subject.device)

    def listen(self, trainer: Trainer) -> None:
        """Reads what every step of a training releases."""
        assert isinstance(trainer.model, Numbered)
        model, mechanism = trainer.model, trainer.mechanism
        assert mechanism is not None
        self._mechanism = mechanism
        norms = mechanism.sample_rate * trainer.units / self._privacy.max_grad_norm
        in_table = self._canaries - self.in_tensors
        self.recorder.attach(trainer)

        def read(*_: Any) -> None:
            released = norms * model.released().double().cpu().numpy()[:in_table]
            self._sums += released
            self._expected += mechanism.sample_rate * self._signal
            self._scores += log_likelihood_ratio(
                released,
                signal=self._signal,
                noise_multiplier=mechanism.noise_multiplier,
                sample_rate=mechanism.sample_rate,
            )
            if len(self.recorder.released):
                self._released.append(self._along_tensors())

        trainer.optimizer.register_step_pre_hook(read)

    def scores(self) -> np.ndarray:
        """Returns the (m,) log likelihood ratio of in to out for each canary, over all steps."""
        return np.concatenate([self._scores, self._in_tensor_scores()])

    def moved(self, inside: np.ndarray) -> Moved | None:
        """Returns the effect of a canary on a step, relative to the expected one; None with fewer than two in (out)."""
        own = inside[: len(self._sums)]
        return moved(self._sums, own, expected=self._expected) if min(own.sum(), (~own).sum()) > 1 else None

    def _inject(self, total: list[Tensor], batch: np.ndarray) -> list[Tensor]:
        """Adds the gradients of the canaries in tensors to a clipped sum; the network's tensors precede the tables."""
        self._drawn = self._numbers[batch[batch >= self._real] - self._real]
        return self._planted.add(total, self._drawn)

    def _along_tensors(self) -> np.ndarray:
        """Returns (k,) released values along the canaries in tensors, without the sum of all other records."""
        noise = self.recorder.released[self._starts[self._planted.tensors] + self._planted.coordinates]
        return np.asarray(noise + self._length * np.isin(self._planted.numbers, self._drawn))

    def _in_tensor_scores(self) -> np.ndarray:
        """Returns (k,) scores of the canaries in tensors; where a tensor surely has less noise, by its actual noise."""
        noise, mechanism = self.recorder.noise, self._mechanism
        if not self._released or noise is None or mechanism is None:
            return np.zeros(self.in_tensors)
        levels = noise.tensors()
        seen = np.maximum(np.sqrt(levels.squares / levels.counts), 1e-3)
        share = np.where(levels.at_most(_SURE) < 1, np.minimum(seen, 1.0), 1.0)[self._planted.tensors]
        ratios = [
            log_likelihood_ratio(
                released / share,
                signal=self._length / share,
                noise_multiplier=mechanism.noise_multiplier,
                sample_rate=mechanism.sample_rate,
            )
            for released in self._released
        ]
        return np.asarray(np.sum(ratios, 0))


def in_inputs(subject: Subject, *, canaries: int, watch: OnCanaryEpoch | None) -> CanaryScores:
    """Scores canaries by how much the confidence in their wrong labels rises from the first model to the last.

    Args:
        subject: with a recipe.
        canaries: how many.
        watch: called after each epoch, or None.

    Returns:
        Scores.
    """
    dataset, held = subject.dataset, never_trained_on(subject)
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

    model, mechanism = _train(
        subject,
        recipe,
        feed,
        labels,
        bounds=dataset.bounds,
        network=network,
        patients=_patients(subject, int(inside.sum())),
        watch=watch,
    )
    first = network(0).eval()
    scores = confidence(replace(mistaken, model=model), rows) - confidence(replace(mistaken, model=first), rows)
    fewer = f"{len(rows)} records were held out, so there are no more canaries than these; asked for {canaries}"
    return CanaryScores(
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
    patients: np.ndarray | None = None,
    listen: Callable[[Trainer], None] | None = None,
    watch: OnCanaryEpoch | None = None,
) -> tuple[nn.Module, Mechanism | None]:
    """Trains the recipe, its teachers first; returns the last network and the mechanism of all stages.

    Args:
        network: builds the one of a stage, numbered from 0.
        patients: (n,) of all records; a canary is a patient of its own.
        listen: called with the trainer of each stage before it starts.
    """
    model: nn.Module | None = None
    spent: Mechanism | None = None
    stages = recipe.stages()
    assert subject.recipe is not None
    passes = subject.recipe.passes
    for number, stage in enumerate(stages):
        trainer = build_trainer(
            network(number),
            stage,
            feed,
            y,
            bounds=bounds,
            seed=seeds.derive(subject.seed, "audit"),
            stage="" if number + 1 == len(stages) else f"teacher {number + 1}",
            classes=subject.dataset.classes,
            task=subject.task,
            epochs=passes,
            teacher=model,
            patients=patients,
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


def _audited_recipe(subject: Subject, *, canaries: int, noise: str | None = "seeded") -> Recipe:
    """Returns the recipe as an audit trains it: without clients and without early stopping.

    Batches grow with the records, so that as many steps draw a record with the same probability as without canaries.

    Args:
        canaries: how many are in.
        noise: ``seeded``, which can be drawn again; None keeps the recipe's setting.
    """
    recipe, groups = subject.recipe, subject.patients(subject.split.train)
    assert recipe is not None
    records = protected(recipe.privacy, groups, len(subject.split.train))
    batch_size = math.ceil(recipe.training.batch_size * (records + canaries) / records)
    return recipe.model_copy(
        update={
            "federation": None,
            "privacy": recipe.privacy and recipe.privacy.model_copy(update={} if noise is None else {"noise": noise}),
            "training": recipe.training.model_copy(update={"early_stopping": None, "batch_size": batch_size}),
        }
    )


def _patients(subject: Subject, canaries: int) -> np.ndarray | None:
    """Returns the (n,) patient of each training record and of each canary that is in; None where records have none."""
    groups = subject.patients(subject.split.train)
    if groups is None:
        return None
    return np.concatenate([[f"patient {group}" for group in groups], [f"canary {k}" for k in range(canaries)]])


def _coins(subject: Subject, canaries: int) -> np.ndarray:
    """Returns (canaries,) bool: which are in, each with probability one half."""
    return np.asarray(seeds.stream(subject.seed, "audit", "coins").random(canaries) < 0.5)


def never_trained_on(subject: Subject) -> np.ndarray:
    """Returns the records that training never uses.

    Args:
        subject: with its split.

    Returns:
        (n,) positions.
    """
    return np.concatenate([subject.split.test, subject.split.validation, subject.split.calibration])


def _feed(dataset: Dataset, y: np.ndarray, rows: np.ndarray, device: torch.device) -> Feed:
    if isinstance(dataset.x, np.ndarray):
        return InMemory(torch.from_numpy(dataset.x[rows]).to(device), torch.from_numpy(y[rows]).to(device))
    return Decoded(dataset.x, y, rows, device=device)


def _layers(model: nn.Module) -> int:
    """Counts the layers with trainable weights of their own, about as many as clipping by layer clips separately."""
    return sum(any(p.requires_grad for p in layer.parameters(recurse=False)) for layer in model.modules())
