"""A hook of anybody's works: it is called in its place, sees no gradient before noise, and its state comes back."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import CheckpointError
from assay.privacy.accounting import Mechanism
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.hooks.base import Hook, by_name
from assay.training.loop import Trainer
from assay.training.update import Update
from tests.mistakes import refused

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Make = Callable[..., Trainer]

SGD = Training(epochs=3, batch_size=16, optimizer="sgd", momentum=0.9, learning_rate=0.1)
PRIVATE = {"privacy": Privacy(epsilon=8.0)}


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Make:
    """A fresh trainer: ``make(hook, ..., recipe settings)``."""

    def fresh(*hooks: Hook, **choices: Any) -> Trainer:
        recipe = Recipe(**{"training": SGD, **choices})
        return build_trainer(network(), recipe, *blobs(50), bounds=blob_bounds, seed=4, hooks=hooks)

    return fresh


@pytest.fixture
def outside(tmp_path: Path) -> ModuleType:
    """The hook that CONTRIBUTING.md shows, as it stands there, in a file that is no part of the tree."""
    document = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL) if "(Hook)" in code)
    (tmp_path / "gradient_clipping.py").write_text(block)
    spec = importlib.util.spec_from_file_location("gradient_clipping", tmp_path / "gradient_clipping.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


def same(one: Trainer, other: Trainer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


class Noting(Hook):
    """Notes when it was called, and with what."""

    def __init__(self, name: str = "noting", calls: list[tuple[Any, ...]] | None = None) -> None:
        self.name = name
        self.calls = [] if calls is None else calls
        self.given: list[list[Tensor]] = []

    def begin(self, trainer: Trainer) -> None:
        self.calls.append((self.name, "begin", trainer.step))

    def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        assert not any(weight.requires_grad for weight in weights)
        assert [weight.shape for weight in weights] == [gradient.shape for gradient in gradients]
        self.calls.append((self.name, "gradients", step))
        self.given.append(gradients)
        return gradients

    def after_step(self, trainer: Trainer) -> None:
        self.calls.append((self.name, "after_step", trainer.step))

    def after_epoch(self, trainer: Trainer, *, last: bool) -> None:
        self.calls.append((self.name, "after_epoch", trainer.epoch, last))


def test_a_hook_that_writes_nothing_changes_nothing(make: Make) -> None:
    class Nothing(Hook):
        name = "nothing"

    without, beside = make(), make(Nothing())
    for trainer in (without, beside):
        trainer.run()
    assert same(without, beside)
    assert (beside.notes, beside.figures) == ([], {})


def test_hooks_are_called_in_their_order_at_every_step_and_epoch(make: Make) -> None:
    calls: list[tuple[Any, ...]] = []
    trainer = make(Noting("a", calls), Noting("b", calls))
    trainer.run()
    expected: list[tuple[Any, ...]] = [("begin", 0)]
    for step in range(12):
        expected += [("gradients", step), ("after_step", step + 1)]
        if step % 4 == 3:
            expected.append(("after_epoch", step // 4 + 1, step == 11))
    assert calls == [(name, *call) for call in expected for name in "ab"]


class Released:
    """Wraps an update and keeps what it released."""

    def __init__(self) -> None:
        self.all: list[list[Tensor]] = []

    def around(self, inner: Update) -> Update:
        self._inner = inner
        return self

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        self.all.append(self._inner.finish(total, batch, step))
        return self.all[-1]

    def mechanism(self, steps: int) -> Mechanism | None:
        return self._inner.mechanism(steps)

    def crafting(self) -> AbstractContextManager[None]:
        return self._inner.crafting()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_hook_of_a_private_training_sees_what_was_released_and_nothing_before_noise(make: Make) -> None:
    """It is handed the very tensors that the update returned behind its noise, so it spends nothing."""
    hook, released = Noting(), Released()
    trainer, without = make(hook, **PRIVATE), make(**PRIVATE)
    trainer.wrap_update(released.around)
    for one in (trainer, without):
        one.run()
    assert len(hook.given) == trainer.step == 12
    assert all(one is other for one, other in zip(hook.given, released.all, strict=True))
    assert trainer.mechanism == without.mechanism
    assert same(trainer, without)


def test_what_a_hook_returns_is_descended(make: Make) -> None:
    class Still(Hook):
        name = "still"

        def gradients(self, step: int, weights: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
            return [torch.zeros_like(gradient) for gradient in gradients]

    trainer = make(Still())
    first = weights(trainer)
    trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(first, weights(trainer), strict=True))


def test_a_hook_may_end_training(make: Make) -> None:
    class Once(Hook):
        name = "once"

        def after_epoch(self, trainer: Trainer, *, last: bool) -> None:
            trainer.stop()

    trainer = make(Once())
    trainer.run()
    assert (trainer.epoch, trainer.finished) == (1, True)
    resumed = make(Once())
    restore_trainer(resumed, trainer_state(trainer))
    resumed.run()
    assert resumed.epoch == 1


def test_who_rolls_back_tells_the_others_and_received_weights_are_told_to_all(make: Make) -> None:
    calls: list[tuple[Any, ...]] = []
    one, other = Noting("one", calls), Noting("other", calls)
    trainer = make(one, other)
    calls.clear()
    first = {f"model.{name}": tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run(1)
    calls.clear()
    trainer.roll_back(first, by=one)
    assert calls == [("other", "begin", 4)]
    assert (trainer.rollbacks, trainer.step) == (1, 4)
    assert all(torch.equal(first[f"model.{name}"], t) for name, t in trainer.model.state_dict().items())
    calls.clear()
    trainer.receive(trainer.model.state_dict())
    assert calls == [("one", "begin", 4), ("other", "begin", 4)]


def test_two_hooks_of_one_name_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="two hooks are called 'noting'"):
        make(Noting(), Noting())
    with pytest.raises(ValueError, match="two hooks are called 'averaging'"):
        make(Noting("averaging"), training=SGD.model_copy(update={"averaging": 0.5}))


def test_hooks_are_found_by_name() -> None:
    one, other = Noting("one"), Noting("other")
    assert by_name([one, other]) == {"one": one, "other": other}


@pytest.mark.parametrize("choices", [{}, PRIVATE], ids=["plain", "private"])
def test_a_hook_from_outside_the_tree_works(make: Make, outside: ModuleType, choices: dict[str, Any]) -> None:
    trainer, free = make(outside.GradientClipping(0.01), **choices), make(**choices)
    descended: list[float] = []
    for one in (trainer, free):
        one.optimizer.register_step_pre_hook(
            lambda optimizer, *_, one=one: descended.append(
                float(torch.cat([p.grad.flatten() for p in one.parameters]).norm())
            )
        )
    trainer.run()
    assert max(descended) <= 0.01 * (1 + 1e-6)
    descended.clear()
    free.run()
    assert max(descended) > 0.02, "or nothing had to be clipped"
    assert len(trainer.figures["gradient_norm"]) == 12
    assert trainer.figures["gradient_norm"][0] == pytest.approx(descended[0])
    assert trainer.mechanism == free.mechanism


def test_a_hook_from_outside_the_tree_goes_on_from_a_checkpoint(make: Make, outside: ModuleType) -> None:
    whole, first, second = (make(outside.GradientClipping(0.01)) for _ in range(3))
    whole.run()
    first.run(1)
    restore_trainer(second, trainer_state(first))
    assert second.figures == first.figures
    second.run()
    assert second.figures == whole.figures
    assert same(second, whole)


def test_a_state_of_other_hooks_is_refused(make: Make) -> None:
    state = trainer_state(make(Noting("mine")))
    with refused(CheckpointError, "training state", ["mine"], ["averaging"]):
        restore_trainer(make(training=SGD.model_copy(update={"averaging": 0.5})), state)
