"""Early stopping keeps the weights that withstood the attack best, and ends training when its patience runs out."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.errors import UserError
from assay.recipes import EarlyStopping, Recipe, Training
from assay.threats import Bounds, Threat
from assay.training.build import build_trainer
from assay.training.hooks.early_stopping import EarlyStopper
from assay.training.loop import Trainer
from tests.training.hooks.stand_in import StandIn

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]


class Told:
    """A probe that says what it is told to."""

    def __init__(self, *accuracies: float) -> None:
        self._accuracies = iter(accuracies)

    def accuracy(self, model: nn.Module, attack: object) -> float:
        return next(self._accuracies)


def stopper(*accuracies: float, **settings: int) -> EarlyStopper:
    return EarlyStopper(EarlyStopping(epsilon=0.1, **settings), Told(*accuracies))  # type: ignore[arg-type]


def follow(accuracies: list[float], *, epochs: int | None = None, **settings: int) -> tuple[EarlyStopper, StandIn]:
    """Epoch after epoch the only weight is the epoch's number."""
    hook, trainer, last = stopper(*accuracies, **settings), StandIn(), epochs or len(accuracies)
    while trainer.epoch < last and not trainer.stopped:
        trainer.epoch += 1
        nn.init.constant_(trainer.model.weight, trainer.epoch)
        hook.after_epoch(trainer, last=trainer.epoch == last)  # type: ignore[arg-type]
    return hook, trainer


@pytest.mark.parametrize(
    ("accuracies", "patience", "kept", "end"),
    [
        ([0.1, 0.3, 0.2, 0.4], 9, 4, 4),
        ([0.1, 0.4, 0.2, 0.3], 9, 2, 4),
        ([0.4, 0.4, 0.4], 9, 1, 3),
        ([0.1, 0.3, 0.2, 0.3, 0.9], 2, 2, 4),
        ([0.1, 0.3, 0.2, 0.31, 0.3, 0.9], 2, 6, 6),
        ([0.5, 0.1], 1, 1, 2),
    ],
)
def test_the_first_of_the_best_weights_are_kept(accuracies: list[float], patience: int, kept: int, end: int) -> None:
    hook, trainer = follow(accuracies, patience=patience)
    assert (trainer.weight, trainer.epoch) == (kept, end)
    assert hook.accuracies == accuracies[:end]


def test_looks_are_apart_and_the_last_epoch_is_always_looked_at() -> None:
    hook, trainer = follow([0.1, 0.3, 0.2], epochs=8, every=3)
    assert trainer.weight == 6
    assert len(hook.accuracies) == 3


def test_a_restored_one_remembers_the_best() -> None:
    first, second = stopper(0.5, 0.1, patience=3), stopper(0.3, 0.4, patience=3)
    trainer = StandIn()
    for weight in (1, 2):
        nn.init.constant_(trainer.model.weight, weight)
        first.after_epoch(trainer, last=False)  # type: ignore[arg-type]
    second.restore(*first.state())
    other = StandIn()
    second.after_epoch(other, last=False)  # type: ignore[arg-type]
    assert not other.stopped
    second.after_epoch(other, last=False)  # type: ignore[arg-type]
    assert other.stopped
    assert other.weight == 1


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds) -> Callable[..., Trainer]:
    def fresh(epochs: int = 12, validation: int = 40, **settings: object) -> Trainer:
        training = Training(epochs=epochs, batch_size=16, learning_rate=0.05, early_stopping=settings)
        held = blobs(validation) if validation else tuple(part[:0] for part in blobs(2))
        return build_trainer(
            network(), Recipe(training=training), *blobs(50), bounds=blob_bounds, seed=4, validation=held
        )

    return fresh


@pytest.mark.parametrize(("epsilon", "norm"), [(0.0, "linf"), (0.4, "linf"), (0.6, "l2")])
def test_the_model_is_the_one_that_withstood_the_attack_best(
    epsilon: float, norm: str, make: Callable[..., Trainer], blobs: Blobs, blob_bounds: Bounds
) -> None:
    trainer = make(epsilon=epsilon, norm=norm, patience=100)
    trainer.run()
    threat = Threat(norm=norm, epsilon=epsilon, bounds=blob_bounds)  # type: ignore[arg-type]
    attacked = PGD(steps=10, loss="margin").run(trainer.model, *blobs(40), threat, seed=0)
    assert trainer.figures["robust_validation"].index(attacked.accuracy) < 11, (
        "the last epoch is not the best, or this shows nothing"
    )
    assert attacked.accuracy == max(trainer.figures["robust_validation"])


def test_patience_ends_training(make: Callable[..., Trainer]) -> None:
    trainer = make(epochs=100, epsilon=0.4, patience=3)
    ended: list[int] = []
    trainer.run(after_epoch=lambda trainer: ended.append(trainer.epoch))
    looks = trainer.figures["robust_validation"]
    assert len(looks) == ended[-1] < 100
    assert looks.index(max(looks)) == len(looks) - 4
    assert trainer.finished
    trainer.run()
    assert trainer.epoch == ended[-1]


def test_without_validation_records_there_is_nothing_to_stop_by(make: Callable[..., Trainer]) -> None:
    with pytest.raises(UserError, match=r"early_stopping looks at validation records, and there are none.*split"):
        make(validation=0, epsilon=0.1)


def test_records_of_validation_teach_nothing(make: Callable[..., Trainer]) -> None:
    few, many = make(epochs=3, validation=10, epsilon=0.0), make(epochs=3, validation=90, epsilon=0.0)
    for trainer in (few, many):
        trainer.run(2)
    for one, other in zip(few.model.parameters(), many.model.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), other.detach())
