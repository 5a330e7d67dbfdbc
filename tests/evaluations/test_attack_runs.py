"""Records that are attacked in pieces: the pieces are the same, and so is the result, whoever works on them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.attacks.base import Judged
from assay.attacks.fgsm import FGSM
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.pgd import PGD
from assay.attacks.random_noise import RandomNoise
from assay.data.base import Dataset
from assay.evaluations import attack_runs
from assay.evaluations.attack_runs import UNLIMITED, AttackRun, AttackTarget, Curve, Curves, worst_case
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor, Outcome
from assay.recipes import Privacy, Recipe

Make = Callable[..., Subject]
STRIKES = {
    "pgd": AttackRun(attack=PGD(steps=3, restarts=2), norm="linf", radii=(0.0, 0.1, 0.3)),
    "noise": AttackRun(attack=RandomNoise(samples=2), norm="l2", radii=(0.5, UNLIMITED)),
}


class Backwards(LocalExecutor):
    """Finishes the last item first, and remembers which items there were."""

    workers = 3

    def __init__(self) -> None:
        self.items: list[Any] = []

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        self.items = list(items)
        yield from reversed(list(super().map(fn, self.items, shared)))


class Dying(LocalExecutor):
    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        yield Outcome(index=1, error="its worker died 2 times")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_runs, "SHARD", 16)


def shared(make: Make, trained: nn.Module, wdbc: Dataset, **settings: Any) -> AttackTarget:
    about = {"low": wdbc.low, "high": wdbc.high}
    subject = make(trained, wdbc.x[:40], wdbc.y[:40], about=about, **settings)
    return AttackTarget.of(subject, norm="linf", epsilons=(0.1, 0.3), records=None)


def same(one: Curves, other: Curves) -> bool:
    return all(
        torch.equal(one[name][e].fooled, other[name][e].fooled)
        and torch.equal(one[name][e].distance, other[name][e].distance)
        for name, run in STRIKES.items()
        for e in run.radii
    )


@pytest.mark.usefixtures("small_pieces")
def test_the_result_does_not_depend_on_who_works_or_in_which_order(
    make: Make, trained: nn.Module, wdbc: Dataset
) -> None:
    backwards = Backwards()
    alone = shared(make, trained, wdbc).curves(STRIKES)
    assert same(alone, shared(make, trained, wdbc, executor=backwards).curves(STRIKES))
    assert sorted(backwards.items) == [(name, start) for name in ("noise", "pgd") for start in (0, 16, 32)]
    assert {name: len(curve[max(curve)].fooled) for name, curve in alone.items()} == {"pgd": 40, "noise": 40}


@pytest.mark.usefixtures("small_pieces")
def test_the_pieces_are_joined_in_the_order_of_the_records(make: Make) -> None:
    """A record falls exactly where the radius reaches its distance to the threshold."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]))
        model.bias.zero_()
    x = np.random.default_rng(0).permutation(np.linspace(-1, 1, 50))[:, None].astype(np.float32)
    subject = make(model, x, (x[:, 0] > 0).astype(int), executor=Backwards())
    runs = {"pgd": AttackRun(attack=PGD(loss="margin"), norm="linf", radii=(0.0, 0.5))}
    found = AttackTarget.of(subject, norm="linf", epsilons=(0.5,), records=None).curves(runs)
    assert np.array_equal(found["pgd"][0.5].fooled.numpy(), np.abs(x[:, 0]) < 0.5)
    assert not found["pgd"][0.0].fooled.any()


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_that_kills_its_workers_is_named(make: Make, trained: nn.Module, wdbc: Dataset) -> None:
    with pytest.raises(RuntimeError, match="pgd on records 16 to 31: its worker died 2 times"):
        shared(make, trained, wdbc, executor=Dying()).curves(STRIKES)


def test_an_attack_looks_through_the_network_it_is_given(make: Make, trained: nn.Module, wdbc: Dataset) -> None:
    """Through a network whose gradient points the other way, steps lead away from the boundary."""

    class Reversed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -trained(x)

    field = shared(make, trained, wdbc)
    attack = PGD(steps=3, loss="margin")
    runs = {
        "own": AttackRun(attack=attack, norm="linf", radii=(0.3,)),
        "astray": AttackRun(attack=attack, norm="linf", radii=(0.3,), through=Reversed()),
    }
    found = field.curves(runs)
    assert found["own"][0.3].fooled.sum() > found["astray"][0.3].fooled.sum()
    assert found["astray"][0.3].fooled.sum() <= (~field.right).sum()


class Chance(nn.Module):
    """Takes a record for the first class with a chance of 60 %, whatever it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right = (torch.rand(len(x)) < 0.6).float()[:, None]
        return 4 * torch.cat([right, 1 - right], 1) + 0 * x[:, :2]


@pytest.mark.usefixtures("small_pieces")
def test_all_attacks_on_a_model_that_answers_at_random_are_judged_by_the_same_draws(make: Make, wdbc: Dataset) -> None:
    about = {"low": wdbc.low, "high": wdbc.high}
    subject = make(Chance(), wdbc.x[:40], np.arange(40) == 0, about=about, executor=Backwards())
    field = replace(AttackTarget.of(subject, norm="linf", epsilons=(0.1,), records=None), passes=64)
    noise = AttackRun(attack=RandomNoise(samples=2), norm="linf", radii=(0.0, 0.1))
    found = field.curves({"one": noise, "other": replace(noise, attack=PGD(steps=2))})
    for radius in (0.0, 0.1):
        assert torch.equal(found["one"][radius].fooled, found["other"][radius].fooled)
        assert torch.equal(found["one"][radius].fooled, ~field.right)
    assert field.clean > 0.8
    assert worst_case(list(found.values()))[0.1].double().mean() < 0.2


def test_numbers_that_are_none_are_not_right(make: Make) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.nan

    field = AttackTarget.of(
        make(Broken(), np.ones((10, 2)), np.arange(10) == 0), norm="linf", epsilons=(), records=None
    )
    assert field.clean == 0.0


def test_the_answer_at_zero_is_that_of_one_attack_and_counts_at_every_greater_radius() -> None:
    def curve(*fooled: list[bool]) -> Curve:
        return {
            float(radius): Judged(fooled=torch.tensor(f), distance=torch.zeros(2), invalid=0)
            for radius, f in enumerate(fooled)
        }

    found = worst_case([curve([True, False], [True, False]), curve([False, True], [False, True])])
    assert {radius: fooled.tolist() for radius, fooled in found.items()} == {0.0: [True, False], 1.0: [True, True]}


def test_every_network_is_back_on_its_device_after_the_journey(make: Make, trained: nn.Module, wdbc: Dataset) -> None:
    class Traveller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.stations = trained, []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.stations.append("work")
            return self.network(x)

        def cpu(self) -> "Traveller":
            self.stations.append("cpu")
            return self

        def to(self, device: torch.device) -> "Traveller":
            self.stations.append(str(device))
            return self

    through = Traveller()
    run = AttackRun(attack=FGSM(), norm="linf", radii=(0.1,), through=through)
    home = torch.device("cpu", 0)
    shared(make, trained, wdbc, device=home).curves({"fgsm": run})
    assert (through.stations[0], through.stations[-1]) == ("cpu", str(home))


def test_a_piece_is_given_its_own_records_as_a_copy(make: Make, trained: nn.Module, wdbc: Dataset) -> None:
    """What workers share lies in memory that nobody may write to."""

    class Frozen(LocalExecutor):
        def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
            assert isinstance(shared.x, np.ndarray)
            x, y = shared.x.copy(), shared.y.copy()
            x.flags.writeable = y.flags.writeable = False
            return super().map(fn, items, replace(shared, x=x, y=y))

    alone = shared(make, trained, wdbc).curves(STRIKES)
    assert same(alone, shared(make, trained, wdbc, executor=Frozen()).curves(STRIKES))


@pytest.mark.parametrize(("recipe", "rows"), [(None, 40), (Recipe(), 40), (Recipe(privacy=Privacy(epsilon=1)), 20)])
def test_an_attack_may_start_from_training_records_but_for_those_of_a_private_recipe(
    make: Make, trained: nn.Module, wdbc: Dataset, recipe: Recipe | None, rows: int
) -> None:
    about = {"low": wdbc.low, "high": wdbc.high}
    subject = make(trained, wdbc.x[:40], wdbc.y[:40], train=np.arange(20), about=about, recipe=recipe)
    known = AttackTarget.of(subject, norm="linf", epsilons=(0.1,), records=10).known
    assert {tuple(record) for record in known.tolist()} == {tuple(record) for record in wdbc.x[40 - rows : 40].tolist()}


@pytest.mark.usefixtures("small_pieces")
def test_records_to_start_from_reach_every_piece_and_are_no_more_than_the_limit(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all pieces only the last holds a record that is answered otherwise, and no random one is."""
    x = np.random.default_rng(0).normal(scale=0.01, size=(40, 500)).astype(np.float32)
    x[-1, 7] = 2.5

    class Needle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            near = (x[:, 7] > 2) & (x[:, :7].abs().amax(1) < 0.5)
            return nn.functional.one_hot(near.long(), 2).float()

    subject = make(Needle(), x, np.arange(40) == 39, about={"low": np.full(500, -3), "high": np.full(500, 3)})
    field = AttackTarget.of(subject, norm="linf", epsilons=(0.5,), records=None)
    hop = {"hop": AttackRun(attack=HopSkipJump(steps=0), norm="linf", radii=(UNLIMITED,))}
    assert field.curves(hop)["hop"][UNLIMITED].fooled.all()
    monkeypatch.setattr(attack_runs, "KNOWN", 7)
    assert len(AttackTarget.of(subject, norm="linf", epsilons=(0.5,), records=None).known) == 7
