"""The control variate in the one training loop: what it adds, what it remembers, and that it costs no ε."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.hooks.base import Hook
from assay.training.hooks.control_variate import CONTROL_VARIATE, ControlVariate
from assay.training.loop import Trainer
from assay.training.update import learning_rate_at

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Make = Callable[..., tuple[Trainer, ControlVariate]]

SGD = Training(epochs=2, batch_size=16, optimizer="sgd", momentum=0.0, learning_rate=0.1, schedule="cosine")
PRIVATE = {"privacy": Privacy(epsilon=8.0)}
plain_and_private = pytest.mark.parametrize("choices", [{}, PRIVATE], ids=["plain", "private"])


class Seen(Hook):
    """Remembers the gradients that reach the optimizer."""

    name = "seen"

    def __init__(self) -> None:
        self.gradient: list[Tensor] = []

    def gradients(self, step: int, weights: object, gradients: list[Tensor]) -> list[Tensor]:
        self.gradient.append(flat(gradients))
        return gradients


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Make:
    def fresh(*others: Hook, training: Training = SGD, **choices: object) -> tuple[Trainer, ControlVariate]:
        variate = ControlVariate()
        recipe = Recipe(**{"training": training, **choices})
        hooks = [*others[:1], variate, *others[1:]]
        return build_trainer(network(), recipe, *blobs(50), bounds=blob_bounds, seed=4, hooks=hooks), variate

    return fresh


@plain_and_private
def test_its_mean_gradient_is_the_way_that_was_gone(make: Make, choices: dict[str, object]) -> None:
    trainer, hook = make(**choices)
    start = flat(trainer.parameters)
    hook.start_round(trainer.parameters, {})
    trainer.run()
    rates = sum(learning_rate_at(SGD, step, trainer.total_steps) for step in range(trainer.step))
    change = hook.end_round()[CONTROL_VARIATE]
    torch.testing.assert_close(change, (start - flat(trainer.parameters)) / rates, rtol=0, atol=1e-5)


@plain_and_private
def test_it_adds_the_servers_variate_less_its_own_after_noise(make: Make, choices: dict[str, object]) -> None:
    raw, corrected = Seen(), Seen()
    corrected.name = "corrected"
    trainer, hook = make(raw, corrected, **choices)
    size = len(flat(trainer.parameters))
    own, server = torch.rand(size).double(), torch.rand(size).double()
    hook.restore({"variate": own}, {})
    hook.start_round(trainer.parameters, {CONTROL_VARIATE: server})
    trainer.run(1)
    for before, after in zip(raw.gradient, corrected.gradient, strict=True):
        torch.testing.assert_close(after, before + server - own, rtol=0, atol=1e-5)


def test_before_any_variate_gradients_are_the_same_objects(make: Make) -> None:
    _, hook = make()
    given = [torch.ones(2)]
    assert hook.gradients(0, [torch.zeros(2)], given) is given
    hook.start_round([torch.zeros(2)], {CONTROL_VARIATE: torch.zeros(2)})
    assert hook.gradients(0, [torch.zeros(2)], given) is given


def test_it_does_not_change_the_privacy_mechanism(make: Make) -> None:
    trainer, hook = make(**PRIVATE)
    hook.start_round(trainer.parameters, {})
    trainer.run()
    other, _ = make(**PRIVATE)
    other.run()
    assert trainer.mechanism == other.mechanism


def test_momentum_does_not_enter_the_mean(make: Make) -> None:
    raw = Seen()
    trainer, hook = make(raw, training=SGD.model_copy(update={"momentum": 0.9, "schedule": "constant"}))
    hook.start_round(trainer.parameters, {})
    trainer.run()
    found = hook.end_round()[CONTROL_VARIATE]
    torch.testing.assert_close(found, torch.stack(raw.gradient).mean(0), rtol=0, atol=1e-9)


def test_a_round_that_was_not_begun_cannot_end() -> None:
    with pytest.raises(AssertionError, match="start_round"):
        ControlVariate().end_round()
