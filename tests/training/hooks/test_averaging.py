"""Training ends with the average of its weights, and goes on with its own until then."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.privacy.accounting import rdp_epsilon
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds, Threat
from assay.training.build import build_trainer
from assay.training.hooks.averaging import Averaging
from assay.training.hooks.base import Hook, by_name
from assay.training.loop import Trainer
from tests.training.hooks.stand_in import StandIn

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Weights = dict[str, Tensor]

PLAIN = Training(epochs=6, batch_size=16, learning_rate=0.05)
DECAY = 0.6
WATCHED = {"name": "fast", "epsilon": 2.0, "relative_step": 0.01, "watch": {"least_share": 0.99}}
"""Examples that stand for nothing: training goes back at the first looks."""


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds) -> Callable[..., Trainer]:
    """A fresh trainer: ``make(averaging=..., training settings ..., recipe settings in ``choices``)``."""

    def fresh(model: nn.Module | None = None, choices: dict[str, object] | None = None, **settings: object) -> Trainer:
        recipe = Recipe(training=PLAIN.model_copy(update=settings), **(choices or {}))
        model = network() if model is None else model
        return build_trainer(model, recipe, *blobs(50), bounds=blob_bounds, seed=4, validation=blobs(40))

    return fresh


def weights(trainer: Trainer) -> Weights:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def hook(trainer: Trainer, name: str) -> Hook:
    return by_name(trainer.hooks)[name]


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in other)


def followed(make: Callable[..., Trainer], until: int | None = None, **settings: object) -> list[Weights]:
    """The weights before the first step and after each of a training that averages nothing."""
    trainer = make(**settings)
    seen = [weights(trainer)]
    trainer.optimizer.register_step_post_hook(lambda *_: seen.append(weights(trainer)))
    trainer.run(until)
    return seen


def average(seen: list[Weights], decay: float = DECAY) -> Weights:
    """By its definition, in float64."""
    found = {name: tensor.double() for name, tensor in seen[0].items()}
    for step, now in enumerate(seen[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        found = {name: share * found[name] + (1 - share) * now[name].double() for name in found}
    return found


def assert_close(found: Weights, expected: Weights) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.01, DECAY, 0.9999])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.usefixtures("given_noise")
def test_training_ends_with_the_average_over_its_steps(
    make: Callable[..., Trainer], decay: float, private: bool
) -> None:
    choices = {"privacy": Privacy(epsilon=8.0)} if private else {}
    seen = followed(make, choices=choices)
    trainer = make(averaging=decay, choices=choices)
    trainer.run()
    assert len(seen) == trainer.step + 1 == 25
    assert_close(weights(trainer), average(seen, decay))
    assert not equal(weights(trainer), seen[-1])


def test_the_average_changes_no_step(make: Callable[..., Trainer]) -> None:
    without, averaged = make(), make(averaging=DECAY)
    for trainer in (without, averaged):
        trainer.run(5)
    assert equal(weights(averaged), weights(without))
    for trainer in (without, averaged):
        trainer.run()
    assert averaged.losses == without.losses
    assert not equal(weights(averaged), weights(without))


def test_who_looks_after_the_last_epoch_sees_the_average(make: Callable[..., Trainer]) -> None:
    seen: list[Weights] = []
    trainer = make(averaging=DECAY)
    trainer.run(after_epoch=lambda trainer: seen.append(weights(trainer)))
    assert equal(weights(trainer), seen[-1])
    trainer.run()
    assert equal(weights(trainer), seen[-1])


def test_without_it_nothing_is_kept(make: Callable[..., Trainer]) -> None:
    assert make().hooks == []


def test_statistics_are_averaged_and_counts_are_kept(make: Callable[..., Trainer]) -> None:
    def normed() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    seen = followed(lambda **settings: make(normed(), **settings))
    trainer = make(normed(), averaging=DECAY)
    trainer.run()
    found, expected = weights(trainer), average(seen)
    assert int(found.pop("1.num_batches_tracked")) == trainer.step
    assert_close(found, {name: tensor for name, tensor in expected.items() if name in found})
    assert not torch.equal(found["1.running_mean"], seen[-1]["1.running_mean"])


def test_it_spends_nothing(make: Callable[..., Trainer]) -> None:
    without, averaged = (make(averaging=decay, choices={"privacy": Privacy(epsilon=8.0)}) for decay in (0.0, DECAY))
    for trainer in (without, averaged):
        trainer.run(2)
    assert averaged.mechanism == without.mechanism
    assert rdp_epsilon(averaged.mechanism) == rdp_epsilon(without.mechanism)  # type: ignore[arg-type]


def test_early_stopping_judges_and_keeps_averages(
    make: Callable[..., Trainer], blobs: Blobs, blob_bounds: Bounds
) -> None:
    stopping = {"epsilon": 0.4, "patience": 2}
    choices = {"epochs": 30, "learning_rate": 0.3}
    trainer = make(averaging=0.9, early_stopping=Training(early_stopping=stopping).early_stopping, **choices)
    trainer.run()
    looks = trainer.figures["robust_validation"]
    assert trainer.finished
    assert len(looks) == trainer.epoch < 30
    best = looks.index(max(looks)) + 1
    steps = trainer.steps_per_epoch * best
    seen = followed(make, best, **choices)[: steps + 1]
    assert_close(weights(trainer), average(seen, 0.9))
    threat = Threat(norm="linf", epsilon=0.4, bounds=blob_bounds)
    attacked = PGD(steps=10, loss="margin").run(trainer.model, *blobs(40), threat, seed=0)
    assert attacked.accuracy == pytest.approx(max(looks), abs=0.03)


def test_early_stopping_leaves_training_its_own_weights(make: Callable[..., Trainer]) -> None:
    never = Training(early_stopping={"epsilon": 0.0, "patience": 99}).early_stopping
    without, averaged = make(), make(averaging=DECAY, early_stopping=never)
    for trainer in (without, averaged):
        trainer.run(4)
    assert equal(weights(averaged), weights(without))


def test_after_a_rollback_the_average_begins_anew(make: Callable[..., Trainer]) -> None:
    def held(trainer: Trainer) -> tuple[Weights, int]:
        tensors, about = hook(trainer, "averaging").state()
        return {name: tensor.clone() for name, tensor in tensors.items()}, about["steps"]

    first = weights(make())
    went_back: list[tuple[Weights, int]] = []
    make(averaging=DECAY, choices={"objective": WATCHED}).run(1, after_epoch=lambda t: went_back.append(held(t)))
    assert equal(went_back[0][0], first)
    assert went_back[0][1] == 0
    went_on: list[tuple[Weights, int]] = []
    make(averaging=DECAY, choices={"objective": {**WATCHED, "watch": None}}).run(
        1, after_epoch=lambda t: went_on.append(held(t))
    )
    assert not equal(went_on[0][0], first)
    assert went_on[0][1] == 4


def test_the_guard_measures_the_average_last(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """In order it is what training ends with; out of order training ends with weights that were looked at."""
    looked: list[tuple[Weights, bool]] = []
    trainer = make(averaging=DECAY, choices={"objective": {"name": "fast", "epsilon": 0.1}})
    guard = hook(trainer, "overfitting_guard")
    measure = guard.after_epoch

    def told(trainer: Trainer, *, last: bool) -> None:
        looked.append((weights(trainer), last))
        measure(trainer, last=last)

    monkeypatch.setattr(guard, "after_epoch", told)
    trainer.run()
    assert [last for _, last in looked] == [False] * 5 + [True]
    assert trainer.notes == []
    assert equal(looked[-1][0], weights(trainer))
    assert_close(looked[-1][0], average(followed(make, choices={"objective": {"name": "fast", "epsilon": 0.1}})))


def test_what_it_holds_comes_back(network: Network) -> None:
    trainer, first, second = StandIn(network()), Averaging(DECAY), Averaging(DECAY)
    for averaging in (first, second):
        averaging.begin(trainer)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1.0)
    first.after_step(trainer)  # type: ignore[arg-type]
    second.restore(*first.state())
    tensors, about = second.state()
    assert about == {"steps": 1}
    assert equal(dict(tensors), dict(first.state()[0]))
