"""A batch that is worked off in pieces teaches what the whole batch teaches, in the memory of a piece."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer
from tests.training.test_collective import Member, apart, together

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
Make = Callable[..., Trainer]

COPIES = 3
PGD = {"name": "pgd", "epsilon": 0.3, "steps": 3, "norm": "l2"}
TRADES = {"name": "trades", "epsilon": 0.3, "steps": 2}
PRIVATE = Privacy(epsilon=8.0)
COPIED = Privacy(epsilon=8.0, augmentations=COPIES)
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmented": {"data": ["jitter"]},
    "adversarial": {"objective": PGD, "data": ["jitter"]},
    "trades": {"objective": TRADES},
    "private": {"privacy": PRIVATE},
    "private adversarial": {"privacy": PRIVATE, "objective": PGD},
    "private, in copies": {"privacy": COPIED, "data": ["jitter"]},
    "private adversarial, in copies": {"privacy": COPIED, "data": ["jitter"], "objective": PGD},
    "private trades, in copies": {"privacy": COPIED, "data": ["jitter"], "objective": TRADES},
    "private by layer": {"privacy": PRIVATE.model_copy(update={"clipping": "per_layer"})},
    "private, automatic": {"privacy": PRIVATE.model_copy(update={"clipping": "automatic"})},
}
every_choice = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Make:
    """A fresh trainer in float64 on signals of one channel: ``make(choice, records_at_once=..., ...)``."""
    bounds = Bounds(low=blob_bounds.low[None].double(), high=blob_bounds.high[None].double())
    first = network(torch.float64).state_dict()

    def fresh(
        choice: dict[str, Any], member: Member | None = None, model: nn.Module | None = None, **settings: Any
    ) -> Trainer:
        x, y = blobs(50, torch.float64)
        training = Training(epochs=2, batch_size=20, optimizer="sgd", learning_rate=0.05)
        recipe = Recipe(training=training.model_copy(update=settings), **choice)
        if model is None:
            model = network(torch.float64)
            model.load_state_dict(first)
        return build_trainer(model, recipe, x[:, None], y, bounds=bounds, seed=4, collective=member)

    return fresh


@every_choice
@pytest.mark.parametrize("pieces", [1, 7])
def test_pieces_teach_what_the_whole_teaches(make: Make, choice: dict[str, Any], pieces: int) -> None:
    whole, parts = make(choice), make(choice, records_at_once=pieces)
    for trainer in (whole, parts):
        trainer.run()
    for ours, theirs in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-12)
    assert parts.mechanism == whole.mechanism


@pytest.mark.parametrize("name", ["plain", "private adversarial, in copies"])
@pytest.mark.parametrize("batch_size", [1, 20])
def test_workers_may_work_off_pieces_too(make: Make, name: str, batch_size: int) -> None:
    """With batches of one record, often of none, most workers have nothing to do."""
    settings = {"batch_size": batch_size, "epochs": 1}
    alone = make(CHOICES[name], **settings)
    alone.run()
    for trainer in together(3, lambda member: make(CHOICES[name], member, records_at_once=2, **settings)):
        assert apart(trainer, alone) <= 1e-10


@pytest.mark.parametrize(
    ("name", "rows"),
    [("plain", 4), ("adversarial", 4), ("private", 4), ("trades", 8), ("private adversarial, in copies", 4 * COPIES)],
)
def test_the_network_never_sees_more_rows_than_those_of_a_piece(make: Make, name: str, rows: int) -> None:
    trainer, seen = make(CHOICES[name], records_at_once=4), set()
    trainer.model[-1].register_forward_hook(lambda _, given, __: seen.add(len(given[0])))
    trainer.run(1)
    assert max(seen) == rows


def test_looks_at_the_weights_are_in_pieces_too(make: Make) -> None:
    watched = {"objective": {"name": "fast", "epsilon": 0.1, "relative_step": 1.0}}
    trainer, seen = make(watched, records_at_once=4), set()
    trainer.model[-1].register_forward_hook(lambda _, given, __: seen.add(len(given[0])))
    trainer.run(1)
    assert max(seen) == 4


def test_dropout_draws_for_each_piece_and_the_same_each_time(make: Make) -> None:
    def masks() -> list[Tensor]:
        kept: list[Tensor] = []
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(5, 2)).double()
        model[1].register_forward_hook(lambda _, given, out: kept.append((out != 0) | (given[0] == 0)))
        make({}, model=model, records_at_once=10).run(1)
        return kept

    first, again = masks(), masks()
    assert [len(mask) for mask in first] == [10] * 5
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for place, a in enumerate(first) for b in first[:place])


def test_a_layer_that_mixes_the_records_of_a_batch_is_refused_by_name(make: Make) -> None:
    mixing = nn.Sequential(nn.Flatten(), nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).double()
    with pytest.raises(IncompatibleRecipeError, match=r"records_at_once is 4, but layer '2' \(BatchNorm1d\).*to null"):
        make({}, model=mixing, records_at_once=4)
    make({}, model=mixing).run(1)
