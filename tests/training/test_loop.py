"""The one loop: training is a function of the recipe, the data and the seed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import TrainingError
from assay.privacy.plan import steps_per_epoch
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer
from assay.training.update import PlainUpdate

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Make = Callable[..., Trainer]

SGD = Training(epochs=5, batch_size=16, optimizer="sgd", learning_rate=0.05, schedule="cosine")
ADAM = Training(epochs=5, batch_size=16, learning_rate=0.01, weight_decay=1e-3)
RECIPES = {
    "sgd": Recipe(training=SGD),
    "adam": Recipe(training=ADAM),
    "adversarial": Recipe(objective={"name": "pgd", "epsilon": 0.3, "steps": 3}, training=ADAM),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=SGD),
    "private adversarial": Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 3, "norm": "l2"}, privacy=Privacy(epsilon=8.0), training=ADAM
    ),
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Make:
    """A fresh trainer: ``make(recipe, seed=..., model=...)``."""

    def fresh(recipe: Recipe, seed: int = 4, model: nn.Module | None = None, n: int = 50) -> Trainer:
        return build_trainer(model or network(), recipe, *blobs(n), bounds=blob_bounds, seed=seed)

    return fresh


def same(one: Trainer, other: Trainer) -> bool:
    """Equal weights, to the last bit."""
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@every_recipe
def test_equal_seeds_give_equal_weights_and_others_do_not(make: Make, recipe: Recipe) -> None:
    one, again, other = make(recipe), make(recipe), make(recipe, seed=5)
    for trainer in (one, again, other):
        trainer.run(2)
    assert same(one, again)
    assert one.losses == again.losses
    assert not same(one, other)


@every_recipe
def test_training_in_two_runs_equals_one_run(make: Make, recipe: Recipe) -> None:
    whole, halves = make(recipe), make(recipe)
    whole.run()
    halves.run(3)
    assert (halves.epoch, halves.step) == (3, 12)
    halves.run()
    assert same(whole, halves)
    assert whole.losses == halves.losses


def test_the_world_outside_changes_nothing_and_is_not_changed(make: Make) -> None:
    dropout = lambda: nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    torch.manual_seed(0)
    one = make(RECIPES["sgd"], model=dropout())
    torch.manual_seed(0)
    other = make(RECIPES["sgd"], model=dropout())
    one.run(2)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    other.run(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, other)


def test_dropout_is_on_in_training_only(make: Make) -> None:
    modes: list[bool] = []
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model[1].register_forward_hook(lambda layer, *_: modes.append(layer.training))
    make(RECIPES["sgd"], model=model).run(1)
    assert modes
    assert all(modes)
    assert not model.training


@pytest.mark.parametrize("name", ["standard", "pgd", "fast", "trades"])
def test_statistics_of_batch_norm_move_once_a_step(make: Make, name: str) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    trainer = make(Recipe(objective=name if name == "standard" else {"name": name, "epsilon": 0.3}), model=model)
    trainer.run(2)
    assert int(model[1].num_batches_tracked) == trainer.step > 0


@every_recipe
def test_examples_are_crafted_without_dropout_and_learnt_from_with_it(
    make: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Private training asks the model for answers of its own now and then.
    monkeypatch.setattr("assay.privacy.inspection.is_due", lambda update: False)
    modes: list[bool] = []
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model[1].register_forward_hook(lambda layer, *_: modes.append(layer.training))
    trainer = make(recipe, model=model)
    trainer.run(1)
    step = [False] * getattr(recipe.objective, "steps", 0) + [True]
    assert modes == step * trainer.step


def test_an_evaluation_after_an_epoch_does_not_change_training(make: Make) -> None:
    def dropout() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    undisturbed, evaluated = make(RECIPES["sgd"], model=dropout()), make(RECIPES["sgd"], model=dropout())
    undisturbed.run()
    evaluated.run(after_epoch=lambda trainer: trainer.model.eval())
    assert same(undisturbed, evaluated)


def test_plain_sgd_equals_a_loop_by_hand(make: Make, network: Network, blobs: Blobs) -> None:
    trainer, model = make(RECIPES["sgd"]), network()
    x, y = blobs(50)
    order = PlainUpdate(model, records=50, batch_size=16, seed=4)
    by_hand = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(20):
        by_hand.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * step / 20)) / 2
        rows = order.batch(step)
        by_hand.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        by_hand.step()
    trainer.run()
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_an_epoch_shows_each_record_once() -> None:
    update = PlainUpdate(nn.Linear(1, 1), records=50, batch_size=16, seed=0)
    first, second = ([update.batch(4 * epoch + step) for step in range(4)] for epoch in (0, 1))
    assert [len(batch) for batch in first] == [16, 16, 16, 2]
    assert np.array_equal(np.sort(np.concatenate(first)), np.arange(50))
    assert np.array_equal(np.sort(np.concatenate(second)), np.arange(50))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


@pytest.mark.parametrize(("records", "batch_size", "steps"), [(50, 16, 4), (48, 16, 3), (5, 16, 1), (1, 1, 1)])
def test_steps_of_an_epoch(records: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(records, batch_size) == steps


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_follows_its_schedule(make: Make, schedule: str) -> None:
    rates: list[float] = []
    trainer = make(Recipe(training=Training(epochs=5, batch_size=50, learning_rate=0.2, schedule=schedule)))  # type: ignore[arg-type]
    trainer.run(after_epoch=lambda t: rates.append(t.optimizer.param_groups[0]["lr"]))
    cosine = 0.2 * (1 + np.cos(np.pi * np.arange(5) / 5)) / 2
    np.testing.assert_allclose(rates, [0.2] * 5 if schedule == "constant" else cosine)


@pytest.mark.parametrize("name", ["sgd", "adam", "adversarial"])
def test_training_learns(make: Make, name: str) -> None:
    longer = RECIPES[name].training.model_copy(update={"epochs": 30})
    trainer = make(RECIPES[name].model_copy(update={"training": longer}))
    trainer.run()
    assert len(trainer.losses) == 30
    assert trainer.losses[-1] < 0.85 * trainer.losses[0]


def test_a_diverging_loss_is_an_error_that_says_what_to_do(make: Make) -> None:
    wild = make(Recipe(training=Training(epochs=50, optimizer="sgd", learning_rate=1e6)))
    with pytest.raises(TrainingError, match=r"after \d+ steps: lower the learning rate"):
        wild.run()


def test_weights_that_are_no_longer_finite_are_an_error_at_once(make: Make) -> None:
    one_step = Training(epochs=1, batch_size=50, optimizer="sgd", learning_rate=1e38, weight_decay=1e3)
    wild = make(Recipe(training=one_step))
    with pytest.raises(TrainingError, match="lower the learning rate"):
        wild.run()
    assert not all(p.isfinite().all() for p in wild.model.parameters())


def test_a_finished_trainer_does_no_more(make: Make) -> None:
    trainer = make(RECIPES["sgd"])
    trainer.run(99)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    assert trainer.epoch == 5
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_the_callback_sees_every_epoch(make: Make) -> None:
    seen: list[tuple[int, int]] = []
    make(RECIPES["sgd"]).run(3, after_epoch=lambda trainer: seen.append((trainer.epoch, len(trainer.losses))))
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_only_private_training_has_a_mechanism(make: Make) -> None:
    plain, private = make(RECIPES["adam"]), make(RECIPES["private"])
    assert plain.mechanism is None
    private.run(2)
    assert private.mechanism is not None
    assert (private.mechanism.steps, private.mechanism.sample_rate) == (8, 16 / 50)


def test_noise_is_calibrated_for_all_planned_epochs(
    blobs: Blobs, network: Network, blob_bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, float]] = []
    monkeypatch.setattr("assay.privacy.plan.calibrate", lambda **given: asked.append(given) or 1.0)
    for epochs in (None, 7):
        build_trainer(network(), RECIPES["private"], *blobs(50), bounds=blob_bounds, seed=0, epochs=epochs)
    assert [given["steps"] for given in asked] == [20, 28]
    assert asked[0] == {"epsilon": 8.0, "delta": 1e-5, "sample_rate": 16 / 50, "steps": 20}


def test_seeded_noise_repeats_and_entropy_does_not(make: Make) -> None:
    free = Recipe(privacy=Privacy(epsilon=8.0, noise="entropy"), training=SGD)
    one, other = make(free), make(free)
    one.run(1)
    other.run(1)
    assert not same(one, other)


@every_recipe
def test_closing_takes_hooks_and_gradients_off(make: Make, recipe: Recipe) -> None:
    trainer = make(recipe)
    trainer.run(1)
    trainer.close()
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in trainer.model.modules())
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in trainer.model.parameters())


def test_frozen_weights_stay(make: Make, network: Network) -> None:
    for name in ("adam", "private"):
        model = network()
        model[1].requires_grad_(False)
        before = model[1].weight.clone()
        make(RECIPES[name], model=model).run(1)
        assert torch.equal(model[1].weight, before)
        assert not torch.equal(model[3].weight, network()[3].weight)
