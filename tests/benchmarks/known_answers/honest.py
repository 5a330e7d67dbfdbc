"""Honest models: small networks of many kinds, trained from seeds on which no check was tuned."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from assay import seeds
from assay.data.base import Dataset
from assay.evaluations.subject import Subject
from assay.registry import build
from tests.benchmarks.known_answers import contrasts
from tests.benchmarks.known_answers.trained import Trainer, accuracy, split_of, subject_of

FIRST_SEED = 20_000
"""Seeds of these models begin here; tests and examples of Assay use small ones."""
LEAST = 0.9
"""Accuracy on held-out records below which a model has not learnt its task, and is drawn again."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A task with networks for it."""

    dataset: dict[str, Any]
    models: tuple[dict[str, Any], ...]
    epochs: tuple[int, ...]
    rates: tuple[float, ...]
    decays: tuple[float, ...] = (0.0, 1e-3, 1e-2)
    records: int = 400
    """Training records."""
    weight: int = 1
    """How often this kind is drawn."""
    measured: int = 30
    """Records whose maps are compared with controls: fewer where a network takes longer."""


def _perceptrons(*hidden: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    return tuple({"name": "mlp", "hidden": sizes} for sizes in hidden)


def _convolutions(**settings: Any) -> tuple[dict[str, Any], ...]:
    sizes = ((4, 8), (8,), (8, 16))
    return tuple(
        {"name": "cnn", "channels": channels, "hidden": 16, "dropout": dropout, **settings}
        for channels in sizes
        for dropout in (0.0, 0.2)
    )


KINDS = (
    Kind(
        dataset={"name": "planted_table"},
        models=_perceptrons((), (8,), (16,), (64,), (32, 16)),
        epochs=(6, 12),
        rates=(0.003, 0.01),
        weight=3,
    ),
    Kind(
        dataset={"name": "planted_table", "interaction": 1.5},
        models=_perceptrons((16,), (64,), (32, 16)),
        epochs=(12, 20),
        rates=(0.005, 0.01),
        weight=2,
    ),
    Kind(
        dataset={"name": "wdbc"},
        models=_perceptrons((), (8,), (32,), (128,), (32, 16)),
        epochs=(6, 12),
        rates=(0.003, 0.01),
        weight=4,
    ),
    Kind(
        dataset={"name": "digits"},
        models=_perceptrons((), (32,), (64,), (64, 32)),
        epochs=(6, 10),
        rates=(0.005, 0.01),
        records=900,
        weight=3,
    ),
    Kind(
        dataset={"name": "digits"},
        models=_convolutions(),
        epochs=(6, 8),
        rates=(0.005, 0.01),
        records=900,
        measured=20,
    ),
    Kind(
        dataset={"name": "planted_ecg", "change": "inverted_t"},
        models=_convolutions(),
        epochs=(5, 8),
        rates=(0.002, 0.005),
        records=600,
        measured=20,
    ),
    Kind(
        dataset={"name": "planted_ecg", "change": "wide_qrs"},
        models=_convolutions(),
        epochs=(5, 8),
        rates=(0.002, 0.005),
        records=600,
        measured=20,
    ),
    Kind(
        dataset={"name": "planted_sentences"},
        models=(
            {"name": "lstm", "hidden": 12},
            {"name": "lstm", "hidden": 12, "bidirectional": False, "attention": True},
            {"name": "text_cnn", "channels": 8, "widths": (2, 3)},
        ),
        epochs=(6, 8),
        rates=(0.01, 0.02),
        decays=(0.0, 1e-4),
        weight=2,
    ),
    Kind(
        dataset={"name": "planted_images"},
        models=_convolutions(kernel=5, pool="average"),
        epochs=(8,),
        rates=(0.005, 0.01),
        decays=(0.0, 1e-3),
        records=600,
        measured=12,
    ),
    Kind(
        dataset={"name": "contrast_table"},
        models=_perceptrons((), (16,), (64,), (32, 16)),
        epochs=(10, 16),
        rates=(0.005, 0.01),
        records=900,
    ),
    Kind(
        dataset={"name": "contrast_edges"},
        models=_perceptrons((), (32,)),
        epochs=(12, 20),
        rates=(0.005, 0.01),
        records=900,
        measured=12,
    ),
)
_DEALT = tuple(kind for kind in KINDS for _ in range(kind.weight))
_MADE = {"contrast_table": contrasts.table, "contrast_edges": contrasts.edges}
"""Data that no data set of Assay holds."""
_TRIES = 5
TESTED = 100
"""Held-out records of a model."""


@dataclass(frozen=True, kw_only=True)
class Honest:
    """A model that has learnt its task."""

    name: str
    task: str
    """Its data set with settings."""
    measured: int
    """Records whose maps are compared with controls."""
    subject: Subject
    tries: int
    """Trainings until one had learnt it."""


@cache
def _loaded(name: str, settings: str) -> Dataset:
    if name in _MADE:
        return _MADE[name]()
    data: Dataset = build("dataset", json.loads(settings)).load()  # type: ignore[attr-defined]
    return data


def honest_models(count: int, first: int = 0) -> Iterator[Honest]:
    """Yields models of all kinds in turn; each number gives the same one.

    Args:
        count: of models.
        first: number of the first one.

    Yields:
        The models. A number whose trainings all fail to learn their task has none, and the next one follows.
    """
    number = first
    while count:
        try:
            one = honest_model(number)
        except NotLearntError:
            one = None
        if one is not None:
            yield one
            count -= 1
        number += 1


class NotLearntError(Exception):
    """No training of a model learnt its task."""


def honest_model(number: int) -> Honest:
    """Returns one model: its task, network, size, regulariser and seed are drawn by its number.

    Args:
        number: of the model.

    Returns:
        The model, trained.

    Raises:
        NotLearntError: no training learnt the task.
    """
    kind = _DEALT[number % len(_DEALT)]
    data = _loaded(kind.dataset["name"], json.dumps(kind.dataset))
    for attempt in range(_TRIES):
        seed = FIRST_SEED + 10 * number + attempt
        draw = seeds.stream(seed, "honest model")
        model = kind.models[int(draw.integers(len(kind.models)))]
        split = split_of(data, seed=seed, test=TESTED, train=kind.records)
        training = {
            "epochs": kind.epochs[int(draw.integers(len(kind.epochs)))],
            "learning_rate": kind.rates[int(draw.integers(len(kind.rates)))],
            "weight_decay": kind.decays[int(draw.integers(len(kind.decays)))],
        }
        trainer = Trainer(data=data.prepared(split.train, seed=seed), model=model, seed=seed, training=training)
        subject = subject_of(trainer, split)
        if accuracy(subject) >= LEAST:
            task = " ".join(str(value) for value in kind.dataset.values())
            return Honest(
                name=f"{number}: {model} on {task}, {training}",
                task=task,
                measured=kind.measured,
                subject=subject,
                tries=attempt + 1,
            )
    raise NotLearntError(f"model {number}, {model} on {kind.dataset}, did not learn its task in {_TRIES} trainings")
