"""A training that is interrupted at any step, and resumed by any number of workers, ends as an undisturbed one does."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from assay.privacy.accounting import rdp_epsilon
from assay.recipes import EarlyStopping, Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.checkpoints import restore_trainer, trainer_state
from assay.training.draws import Draws
from assay.training.loop import Trainer
from tests.training.workers import Group, Member, apart

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]

SHORT = Training(epochs=3, batch_size=16, learning_rate=0.02, schedule="cosine")
STEPS = 12
"""50 records: four steps an epoch, the last of them on two records."""
RECIPES = {
    "plain, averaged": Recipe(training=SHORT.model_copy(update={"averaging": 0.9})),
    "momentum, in pieces": Recipe(
        training=Training(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.05, records_at_once=3)
    ),
    "adversarial": Recipe(objective={"name": "pgd", "epsilon": 0.3, "steps": 2}, data=["jitter"], training=SHORT),
    "reweighted": Recipe(data=({"name": "robust_reweighting", "alpha": 0.3},), training=SHORT),
    "private, averaged": Recipe(
        privacy=Privacy(epsilon=8.0), training=SHORT.model_copy(update={"averaging": 0.9, "records_at_once": 5})
    ),
    # Examples that stand for nothing: training goes back at the first looks.
    "watched": Recipe(
        objective={"name": "fast", "epsilon": 2.0, "relative_step": 0.01, "watch": {"least_share": 0.99}},
        training=SHORT.model_copy(update={"learning_rate": 0.05}),
    ),
    "stopping early": Recipe(
        training=SHORT.model_copy(
            update={"learning_rate": 0.3, "averaging": 0.5, "early_stopping": EarlyStopping(epsilon=0.4, patience=1)}
        )
    ),
}


class KilledError(Exception):
    """The end of a worker."""


class KilledAt:
    """Checkpoints of a training that is killed right after one."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.state = steps, b""

    def due(self, trainer: Trainer) -> bool:
        return trainer.step in self.steps

    def save(self, trainer: Trainer) -> None:
        self.state = trainer_state(trainer)
        if trainer.step == self.steps[-1]:
            raise KilledError


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Callable[..., Trainer]:
    first = network(torch.float64)

    def fresh(recipe: Recipe, member: Member | None = None, **settings: object) -> Trainer:
        x, y = blobs(50, torch.float64)
        if recipe.data and recipe.data[0].name == "jitter":
            x = x[:, None]
        model = nn.Sequential(nn.Flatten(), copy.deepcopy(first))
        held = blobs(40, torch.float64)
        return build_trainer(
            model, recipe, x, y, bounds=Bounds(low=torch.tensor(-4.0), high=torch.tensor(5.0)), seed=4,
            collective=member, validation=held, **settings,  # type: ignore[arg-type]
        )  # fmt: skip

    return fresh


def continued(make: Callable[..., Trainer], recipe: Recipe, size: int, state: bytes, end: int | None) -> list[Trainer]:
    """Every worker's trainer after going on from a state; to the end, or until all are killed at a step."""
    group = Group(size)

    def train(rank: int) -> Trainer:
        trainer = make(recipe, Member(group, rank) if size > 1 else None)
        if state:
            restore_trainer(trainer, state)
        killed = KilledAt(end) if end is not None else None
        try:
            trainer.run(checkpoints=killed)
        except KilledError:
            assert killed is not None
            trainer.kept = killed.state  # type: ignore[attr-defined]
        return trainer

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(train, range(size)))


def kept(trainers: list[Trainer]) -> bytes:
    """The state that the first worker stored last."""
    state: bytes = trainers[0].kept  # type: ignore[attr-defined]
    return state


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_training_that_is_killed_after_any_step_ends_as_an_undisturbed_one_bit_for_bit(
    make: Callable[..., Trainer], recipe: Recipe
) -> None:
    whole = make(recipe)
    whole.run()
    last = whole.step
    for step in range(1, last):
        killed = continued(make, recipe, 1, b"", step)
        assert killed[0].step == step
        (resumed,) = continued(make, recipe, 1, kept(killed), None)
        assert apart(resumed, whole) == 0, f"killed after step {step}"
        assert resumed.losses == whole.losses
        assert resumed.mechanism == whole.mechanism
        assert (resumed.step, resumed.stopped) == (whole.step, whole.stopped)
        assert (resumed.notes, resumed.figures, resumed.rollbacks) == (whole.notes, whole.figures, whole.rollbacks)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize(
    ("sizes", "ends"), [((2, 1, 2), (3, 6)), ((1, 3), (5,))], ids=["2, 1, 2 workers", "1, 3 workers"]
)
def test_any_sequence_of_numbers_of_workers_gives_the_weights_epsilon_and_log_of_one(
    make: Callable[..., Trainer], recipe: Recipe, sizes: tuple[int, ...], ends: tuple[int, ...]
) -> None:
    whole = make(recipe)
    whole.run()
    state = b""
    for size, end in zip(sizes, [*ends, None], strict=True):
        trainers = continued(make, recipe, size, state, end)
        state = b"" if end is None else kept(trainers)
    for trainer in trainers:
        assert apart(trainer, whole) <= 1e-10
        assert trainer.losses == pytest.approx(whole.losses, rel=1e-11)
        assert trainer.mechanism == whole.mechanism
        assert (trainer.step, trainer.notes, trainer.figures) == (whole.step, whole.notes, whole.figures)


def test_what_is_interrupted_goes_back_and_stops_early(make: Callable[..., Trainer]) -> None:
    watched, stopped = make(RECIPES["watched"]), make(RECIPES["stopping early"])
    for trainer in (watched, stopped):
        trainer.run()
    assert watched.rollbacks and stopped.stopped and stopped.step < STEPS


@pytest.mark.parametrize("step", [2, 4], ids=["in mid-epoch", "after an epoch"])
def test_a_checkpoint_on_the_way_changes_nothing(make: Callable[..., Trainer], step: int) -> None:
    recipe = RECIPES["private, averaged"]
    whole, stored = make(recipe), make(recipe)
    whole.run()
    stored.run(checkpoints=KilledAt(step, STEPS + 1))
    assert apart(whole, stored) == 0
    assert whole.losses == stored.losses


ENTROPY = Recipe(privacy=Privacy(epsilon=8.0, noise="entropy"), training=SHORT)


def killed_at_seven(make: Callable[..., Trainer], draws: Draws, next_by: int | None) -> bytes:
    """The state after five steps of a training that is killed two steps later."""
    trainer = make(ENTROPY, entropy=draws)
    trainer.run(steps=5)
    state = trainer_state(trainer, next_by=next_by)
    trainer.run(steps=2)
    return state


def test_steps_that_are_repeated_with_the_same_noise_are_spent_once(make: Callable[..., Trainer]) -> None:
    draws = Draws.from_entropy()
    whole = make(ENTROPY, entropy=draws)
    whole.run()
    resumed = make(ENTROPY, entropy=draws)
    restore_trainer(resumed, killed_at_seven(make, draws, 8))
    resumed.run()
    assert apart(resumed, whole) == 0
    assert resumed.mechanism == whole.mechanism
    assert resumed.mechanism is not None and resumed.mechanism.steps == STEPS


@pytest.mark.parametrize(("next_by", "lost"), [(8, 3), (5, 0), (None, STEPS - 5), (99, STEPS - 5)])
def test_steps_that_are_repeated_with_other_noise_are_spent_again(
    make: Callable[..., Trainer], next_by: int | None, lost: int
) -> None:
    """Up to the step by which the next checkpoint was due, since nobody knows how many were taken."""
    whole, resumed = make(ENTROPY), make(ENTROPY)
    whole.run()
    restore_trainer(resumed, killed_at_seven(make, Draws.from_entropy(), next_by))
    resumed.run()
    assert whole.mechanism is not None and resumed.mechanism is not None
    assert (whole.mechanism.steps, resumed.mechanism.steps) == (STEPS, STEPS + lost)
    assert (rdp_epsilon(resumed.mechanism) > rdp_epsilon(whole.mechanism)) == bool(lost)
    assert any(f"{lost} steps" in note for note in resumed.notes) == bool(lost)


def test_every_interruption_with_other_noise_adds_up(make: Callable[..., Trainer]) -> None:
    state = killed_at_seven(make, Draws.from_entropy(), 8)
    for times in (1, 2, 3):
        trainer = make(ENTROPY)
        restore_trainer(trainer, state)
        assert trainer.repeated == 3 * times
        # Stored before any further step, as a worker does that continues.
        state = trainer_state(trainer, next_by=8)


def test_other_numbers_of_a_training_without_noise_spend_nothing(make: Callable[..., Trainer]) -> None:
    recipe = RECIPES["plain, averaged"]
    (killed,) = continued(make, recipe, 1, b"", 5)
    resumed = make(recipe)
    restore_trainer(resumed, kept([killed]))
    assert (resumed.repeated, resumed.mechanism) == (0, None)
