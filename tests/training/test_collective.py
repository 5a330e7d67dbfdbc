"""However a batch is spread over workers, training is the same."""

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay
import assay.data
import assay.objectives
from assay import seeds
from assay.errors import TrainingError
from assay.models.mlp import MLP
from assay.privacy.update import PrivateUpdate
from assay.recipes import EarlyStopping, Privacy, Recipe, Training
from assay.registry import names
from assay.threats import Bounds
from assay.training import overlap
from assay.training.build import build_trainer
from assay.training.checkpoints import from_bytes, to_bytes
from assay.training.collective import Alone, Distributed
from assay.training.feed import InMemory
from assay.training.loop import Trainer
from tests.training.workers import Group, Member, apart, together

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]

SGD = Training(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.05)
RECIPES = {
    "standard": Recipe(training=SGD),
    "adam": Recipe(training=Training(epochs=3, batch_size=16)),
    "adversarial": Recipe(objective={"name": "pgd", "epsilon": 0.3, "steps": 3}, training=SGD),
    "reweighted": Recipe(data=({"name": "robust_reweighting", "alpha": 0.3},), training=SGD),
    "sanitised": Recipe(data=({"name": "label_flips"}, {"name": "loss_sanitation"}), training=SGD),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=SGD),
    "private adversarial": Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 3, "norm": "l2"}, privacy=Privacy(epsilon=8.0), training=SGD
    ),
    "private, averaged, in pieces": Recipe(
        privacy=Privacy(epsilon=8.0), training=SGD.model_copy(update={"averaging": 0.9, "records_at_once": 3})
    ),
    "trades": Recipe(objective={"name": "trades", "epsilon": 0.3}, training=SGD),
    "private trades": Recipe(objective={"name": "trades", "epsilon": 0.3}, privacy=Privacy(epsilon=8.0), training=SGD),
    "fast": Recipe(objective={"name": "fast", "epsilon": 0.3}, training=SGD),
    # Examples that stand for nothing: training goes back at the first looks.
    "fast, watched": Recipe(
        objective={"name": "fast", "epsilon": 2.0, "relative_step": 0.01, "watch": {"least_share": 0.99}},
        training=SGD.model_copy(update={"learning_rate": 0.2}),
    ),
    "distillation": Recipe(objective={"name": "distillation", "temperature": 5}, training=SGD),
    "interval bounds": Recipe(objective={"name": "interval_bounds", "epsilon": 0.1, "warm_up": 0.0}, training=SGD),
    "gaussian noise": Recipe(objective={"name": "gaussian_noise", "sigma": 0.25}, training=SGD),
    "stopping early": Recipe(
        training=SGD.model_copy(
            update={"epochs": 12, "learning_rate": 0.3, "early_stopping": EarlyStopping(epsilon=0.4, patience=2)}
        )
    ),
}


@pytest.fixture
def make(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> Callable[..., Trainer]:
    # Threads share the global generator, so first weights are drawn before there are any.
    first = network(torch.float64)

    def fresh(recipe: Recipe, member: Member | None = None, n: int = 50) -> Trainer:
        x, y = blobs(n, torch.float64)
        return build_trainer(
            copy.deepcopy(first),
            recipe,
            x,
            y,
            bounds=blob_bounds,
            seed=4,
            collective=member,
            teacher=copy.deepcopy(first),
            validation=blobs(40, torch.float64),
        )

    return fresh


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_equal_one_alone(make: Callable[..., Trainer], recipe: Recipe, workers: int) -> None:
    alone = make(recipe)
    alone.run()
    for trainer in together(workers, lambda member: make(recipe, member)):
        assert apart(trainer, alone) <= 1e-10
        assert trainer.step == alone.step
        assert (trainer.notes, trainer.figures) == (alone.notes, alone.figures)


def test_what_is_compared_goes_back_and_stops_early(make: Callable[..., Trainer]) -> None:
    watched, stopped = make(RECIPES["fast, watched"]), make(RECIPES["stopping early"])
    for trainer in (watched, stopped):
        trainer.run()
    assert len(watched.notes) > 1
    assert stopped.epoch < 12


def test_every_objective_is_compared() -> None:
    assert {recipe.objective.name for recipe in RECIPES.values()} == set(names("objective"))


@pytest.mark.parametrize("name", ["standard", "reweighted", "private", "private adversarial"])
def test_a_batch_smaller_than_the_group_leaves_some_without_records(make: Callable[..., Trainer], name: str) -> None:
    """Batches of one record, and in the private recipes often of none."""
    recipe = RECIPES[name].model_copy(update={"training": SGD.model_copy(update={"batch_size": 1, "epochs": 2})})
    alone = make(recipe, n=8)
    alone.run()
    for trainer in together(3, lambda member: make(recipe, member, n=8)):
        assert apart(trainer, alone) <= 1e-10


@pytest.mark.parametrize("what", ["records", "labels"])
def test_workers_whose_treatments_disagree_are_all_told(
    blobs: Blobs, network: Network, blob_bounds: Bounds, what: str
) -> None:
    group = Group(3)
    models = [network() for _ in range(3)]

    def work(rank: int) -> str:
        x, y = (tensor.clone() for tensor in blobs(50))
        if rank == 1 and what == "records":
            x[7, 0] += 1e-6
        if rank == 1 and what == "labels":
            y[7] = 1 - y[7]
        with pytest.raises(TrainingError) as error:
            build_trainer(
                models[rank],
                RECIPES["sanitised"],
                x,
                y,
                bounds=blob_bounds,
                seed=4,
                collective=Member(group, rank),
            )
        return str(error.value)

    with ThreadPoolExecutor(3) as pool:
        assert all("left other records on this worker" in said for said in pool.map(work, range(3)))


@pytest.mark.parametrize("name", ["standard", "private"])
def test_all_workers_hold_the_very_same_weights(make: Callable[..., Trainer], name: str) -> None:
    one, other = together(2, lambda member: make(RECIPES[name], member))
    assert apart(one, other) == 0


def test_entropy_gives_other_weights_each_run_but_the_same_noise_on_all_workers(make: Callable[..., Trainer]) -> None:
    recipe = Recipe(privacy=Privacy(epsilon=8.0, noise="entropy"), training=SGD)
    first, second = (together(2, lambda member: make(recipe, member)) for _ in range(2))
    assert apart(*first) == 0
    assert apart(*second) == 0
    assert apart(first[0], second[0]) > 1e-3


class Remembering:
    """A feed that notes who was asked for."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._feed, self.device = InMemory(x, y), x.device
        self.asked: list[list[np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._feed)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        self.asked.append(list(batches))
        return self._feed.follow(batches)


@pytest.mark.parametrize("workers", [2, 3])
def test_sampling_is_poisson_over_the_union_of_all_workers(
    blobs: Blobs, blob_bounds: Bounds, workers: int, given_noise: float
) -> None:
    """Together they take the very records that one alone would, each of them once."""
    x, y = blobs(400)
    training = Training(epochs=12, batch_size=40, optimizer="sgd", learning_rate=0.01)
    recipe = Recipe(privacy=Privacy(epsilon=8.0), training=training)
    models, feeds = [nn.Linear(5, 2) for _ in range(workers)], [Remembering(x, y) for _ in range(workers)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    together(
        workers,
        lambda member: build_trainer(
            models[member.rank], recipe, feeds[member.rank], y, bounds=blob_bounds, seed=4, collective=member
        ),
    )
    sizes: list[int] = []
    for epoch in range(12):
        shares = [np.concatenate(feed.asked[epoch]) for feed in feeds]
        expected = [
            np.flatnonzero(seeds.stream(4, "sample", step).random(400) < 0.1)
            for step in range(10 * epoch, 10 * epoch + 10)
        ]
        assert sorted(np.concatenate(shares)) == sorted(np.concatenate(expected))
        assert all(abs(len(share) - len(shares[0])) <= 10 for share in shares)
        sizes += [len(batch) for batch in expected]
    variance = 400 * 0.1 * 0.9
    assert np.mean(sizes) == pytest.approx(40, abs=4 * np.sqrt(variance / 120))
    assert np.var(sizes) == pytest.approx(variance, rel=4 * np.sqrt(2 / 120))


@pytest.fixture
def nothing_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty batches, and numbers from entropy that differ from worker to worker but not from test to test."""
    monkeypatch.setattr(PrivateUpdate, "batch", lambda self, step: np.empty(0, int))
    numbers = itertools.count(7)
    monkeypatch.setattr(seeds, "entropy", lambda: next(numbers))


@pytest.mark.parametrize("noise", ["seeded", "entropy"])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.usefixtures("nothing_sampled")
def test_noise_is_added_once_in_total_however_many_workers_there_are(
    blobs: Blobs, blob_bounds: Bounds, workers: int, noise: str, given_noise: float
) -> None:
    """One step of length 1 on nothing leaves the noise alone: its variance is (σ C / expected size)²."""
    x, y = blobs(40)
    training = Training(epochs=1, batch_size=40, optimizer="sgd", learning_rate=1.0, momentum=0.0)
    recipe = Recipe(privacy=Privacy(epsilon=8.0, max_grad_norm=0.5, noise=noise), training=training)
    models = [nn.Linear(5, 20_000) for _ in range(workers)]
    for model in models:
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    trainers = together(
        workers,
        lambda member: build_trainer(models[member.rank], recipe, x, y, bounds=blob_bounds, seed=4, collective=member),
    )
    found = torch.cat([parameter.detach().flatten() for parameter in trainers[0].model.parameters()]).double()
    assert float(found.var()) == pytest.approx((given_noise * 0.5 / 40) ** 2, rel=4 * np.sqrt(2 / len(found)))
    assert all(apart(trainers[0], other) == 0 for other in trainers)


def test_one_worker_is_its_own_sum() -> None:
    tensors = [torch.ones(2)]
    assert (Alone().rank, Alone().size, Alone().sum(tensors), Alone().agree(5)) == (0, 1, tensors, 5)


def processes(tmp_path: Path, size: int) -> list[dict[str, Tensor]]:
    """Runs this file as every rank of a gloo group; what each wrote."""
    path = os.pathsep.join([str(Path(assay.__file__).parents[1]), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(size), str(tmp_path)], env=environment, stderr=subprocess.PIPE
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * size, said
    return [from_bytes((tmp_path / f"{rank}").read_bytes(), "worker")[0] for rank in range(size)]


def test_processes_over_gloo_equal_one_alone(tmp_path: Path) -> None:
    one, other = processes(tmp_path, 2)
    for name in OVER_GLOO:
        for key, value in by_itself(name).model.state_dict().items():
            assert (one[f"{name}.{key}"] - value).abs().max() <= 1e-10
            assert torch.equal(one[f"{name}.{key}"], other[f"{name}.{key}"])
    # Sums of two do not depend on the order.
    for key in by_itself("adversarial").model.state_dict():
        assert torch.equal(one[f"explicit.{key}"], one[f"adversarial.{key}"])
    assert one["ranks"].tolist() == other["ranks"].tolist() == [0, 1]
    assert torch.equal(one["agreed"], other["agreed"])
    assert int.from_bytes(bytes(one["agreed"].tolist()), "big") == 2**128 - 1
    assert one["sums"].tolist() == other["sums"].tolist() == [3.0] * 6 + [30.0]


OVER_GLOO = {"adversarial": 8, "private": 8, "private adversarial": 1}
"""Recipes and sizes of their batches. Of 25 records, the last batch of 8 holds one; of one that is expected, one worker
or both have often none."""


def by_itself(name: str, collective: Distributed | None = None, *, explicit: bool = False) -> Trainer:
    """Trains a recipe on 25 fixed records; with ``explicit``, gradients are summed after the backward pass."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(25, 5, generator=generator, dtype=torch.float64), torch.arange(25) % 2
    bounds = Bounds(low=torch.tensor(-9.0), high=torch.tensor(9.0))
    recipe = RECIPES[name].model_copy(update={"training": SGD.model_copy(update={"batch_size": OVER_GLOO[name]})})
    model = MLP(hidden=(8,)).build((5,), 2, seed=3).double()
    with mock.patch("assay.privacy.plan.calibrate", return_value=1.3):
        trainer = build_trainer(model, recipe, x, y, bounds=bounds, seed=4, collective=collective)
    if explicit:
        assert trainer._overlapped is not None
        trainer._overlapped = None
    trainer.run()
    return trainer


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    collective = Distributed(torch.device("cpu"))
    found: dict[str, Tensor] = {}
    overlap.BUCKET_BYTES = 400
    for name in OVER_GLOO:
        state = by_itself(name, collective).model.state_dict()
        found |= {f"{name}.{key}": value for key, value in state.items()}
    state = by_itself("adversarial", collective, explicit=True).model.state_dict()
    found |= {f"explicit.{key}": value for key, value in state.items()}
    given = [torch.full((2, 3), rank + 1.0), torch.tensor(10.0 * (rank + 1))]
    found["sums"] = torch.cat([value.reshape(-1) for value in collective.sum(given)])
    mine = torch.tensor([float(r == collective.rank) * r for r in range(collective.size)])
    found["ranks"] = collective.sum([mine])[0].long()
    agreed = collective.agree(2**128 - 1 if rank == 0 else 7)
    found["agreed"] = torch.tensor(list(agreed.to_bytes(16, "big")))
    (folder / f"{rank}").write_bytes(to_bytes(found, {}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
