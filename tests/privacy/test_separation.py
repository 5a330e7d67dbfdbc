"""Models that mix records, or keep something of them, are refused at the first update; all others are not."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import IncompatibleRecipeError
from assay.privacy import inspection
from assay.privacy.clipping import PerRecordGradients
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy
from tests.privacy.mixers import CLASSES, KEEPERS, MIXERS, SOUND, Mixer, mixer

NEED_MANY = {"for many records only", "records as channels", "a fixed mix", "pairs"}
"""Those that do nothing, or nothing at all, with one record."""
NOT_OF_ONE = {"functional batch norm", "instance norm over records"}
"""Those that torch refuses with one record."""


def update(model: nn.Module, gradients: PerRecordGradients, n: int, seed: int = 0) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 5, generator=draw), torch.arange(n) % CLASSES
    gradients.clipped_sum(F.cross_entropy(model(x), y, reduction="none"), 1.0)


@pytest.mark.parametrize("name", MIXERS)
def test_a_model_that_mixes_records_is_refused_at_the_first_update(name: str) -> None:
    torch.manual_seed(0)
    model = MIXERS[name]().train()
    with pytest.raises(IncompatibleRecipeError, match=r"depends on other records.*keep the records of a batch apart"):
        update(model, PerRecordGradients(model), 16)


@pytest.mark.parametrize("name", [name for name in MIXERS if name not in NEED_MANY | NOT_OF_ONE])
def test_a_first_batch_of_one_record_hides_nothing(name: str) -> None:
    torch.manual_seed(1)
    model = MIXERS[name]().train()
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        update(model, PerRecordGradients(model), 1)


@pytest.mark.parametrize("name", ["maximum", "detached maximum", "one maximum of all", "detached mean"])
def test_no_draw_of_records_hides_it(name: str) -> None:
    for seed in range(12):
        torch.manual_seed(seed)
        model = MIXERS[name]().train()
        with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
            update(model, PerRecordGradients(model), 6, seed)


@pytest.mark.parametrize("name", KEEPERS)
def test_a_model_that_keeps_something_is_refused_wherever_it_keeps_it(name: str) -> None:
    torch.manual_seed(0)
    model = KEEPERS[name]().train()
    with pytest.raises(IncompatibleRecipeError, match="the forward pass changed") as caught:
        update(model, PerRecordGradients(model), 16)
    assert caught.value.setting == "model"


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("n", [1, 16])
def test_a_model_that_keeps_records_apart_is_not_refused(name: str, n: int) -> None:
    torch.manual_seed(0)
    model = SOUND[name]().train()
    gradients = PerRecordGradients(model)
    for _ in range(2):
        update(model, gradients, n)


class Begins(Mixer):
    """Begins to mix, or to keep something, when it is told to."""

    mixes = keeps = False

    def prepare(self) -> None:
        self.kept = {"mean": torch.zeros(5)}

    def mix(self, h: Tensor) -> Tensor:
        if self.keeps:
            self.kept["mean"] = self.kept["mean"] + h.detach().mean(0)
        return h - h.mean(0).detach() if self.mixes else h


@pytest.mark.parametrize("passed", [1, 9])
def test_mixing_that_begins_later_is_found_at_the_second_update_and_the_tenth(passed: int) -> None:
    torch.manual_seed(0)
    model = Begins().train()
    gradients = PerRecordGradients(model)
    for _ in range(passed):
        update(model, gradients, 6)
    model.mixes = True
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        update(model, gradients, 6)


@pytest.mark.parametrize("asked", [False, True])
def test_mixing_that_begins_at_the_last_update_is_found_if_it_is_asked_again(asked: bool) -> None:
    torch.manual_seed(0)
    model = Begins().train()
    private = PrivateUpdate(model, Privacy(epsilon=8.0), records=40, batch_size=8, steps=5, seed=0)
    x, y = torch.randn(8, 5), torch.arange(8) % CLASSES

    def step(number: int) -> None:
        total = private.gradients(F.cross_entropy(model(x), y, reduction="none"))
        private.finish(total, private.batch(number), number)

    for number in range(4 if asked else 3):
        step(number)
    model.mixes = True
    if asked:
        with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
            step(4)
    else:
        step(3)


def test_keeping_that_begins_later_is_found_at_any_update() -> None:
    torch.manual_seed(0)
    model = Begins().train()
    gradients = PerRecordGradients(model)
    for _ in range(4):
        update(model, gradients, 6)
    model.keeps = True
    with pytest.raises(IncompatibleRecipeError, match="the forward pass changed"):
        update(model, gradients, 6)


def test_a_far_larger_batch_is_asked_about_too() -> None:
    torch.manual_seed(0)
    model = mixer(lambda _, h: h - h.mean(0).detach() if len(h) > 40 else h)().train()
    gradients = PerRecordGradients(model)
    for n in (16, 30, 17):
        update(model, gradients, n)
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        update(model, gradients, 64)


def test_a_model_that_cannot_be_copied_or_asked_is_refused() -> None:
    class Holds(Mixer):
        def prepare(self) -> None:
            self.steps = (one for one in range(3))

        def mix(self, h: Tensor) -> Tensor:
            return h

    model = Holds().train()
    with pytest.raises(IncompatibleRecipeError, match="cannot be copied"):
        update(model, PerRecordGradients(model), 6)


def test_asking_moves_no_weight_and_draws_nothing() -> None:
    torch.manual_seed(0)
    model = SOUND["dropout"]().train()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    gradients = PerRecordGradients(model)
    generator = torch.get_rng_state()
    found = F.cross_entropy(model(torch.ones(6, 5)), torch.zeros(6).long(), reduction="none")
    drawn = torch.get_rng_state()
    gradients.clipped_sum(found, 1.0)
    assert torch.equal(torch.get_rng_state(), drawn) and not torch.equal(drawn, generator)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert inspection.is_due(1) and inspection.is_due(2) and not inspection.is_due(3) and inspection.is_due(100)
