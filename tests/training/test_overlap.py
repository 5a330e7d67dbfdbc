"""Gradients that are summed during the backward pass are those that are summed after it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.errors import TrainingError
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training import overlap
from assay.training.build import build_trainer
from assay.training.loop import Trainer
from assay.training.overlap import OverlappedSums
from tests.training.workers import Group, Member, apart, in_threads, together

Blobs = Callable[..., tuple[Tensor, Tensor]]


class Branching(nn.Module):
    """One layer for positive records, another one for the rest, one that is never used, and one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 2)  # not in the order in which gradients come
        self.left, self.right, self.never = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6)
        self.twice = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.left if bool(x.sum() > 0) else self.right
        return self.last(self.twice(self.twice(layer(x)).relu()))  # type: ignore[no-any-return]


class Counting:
    """A worker that alone makes a group, and notes when each message starts."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.events: list[str] = []

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        self.events.append("explicit")
        return tensors

    def start(self, flat: Tensor) -> Callable[[], None]:
        self.events.append(f"start {flat.numel()}")
        return lambda: self.events.append("wait")

    def agree(self, seed: int) -> int:
        return seed


@pytest.mark.parametrize("bucket_bytes", [1, 400, 2**20])
@pytest.mark.parametrize("pieces", [1, 3])
def test_sums_are_those_of_explicit_messages(bucket_bytes: int, pieces: int) -> None:
    """In float64, with layers that only one worker uses or none, and a worker without records."""
    torch.manual_seed(0)
    model = Branching().double()
    inputs = [torch.randn(6, 5).double().abs(), -torch.randn(3, 5).double().abs(), torch.zeros(0, 5).double()]
    models = [copy.deepcopy(model) for _ in inputs]
    group = Group(3)

    def go(rank: int) -> tuple[list[Tensor], list[Tensor]]:
        parameters = list(models[rank].parameters())
        member = Member(group, rank)
        parts = inputs[rank].tensor_split(pieces) if len(inputs[rank]) else []
        losses = [models[rank](part).square().sum() for part in parts]
        zeros = [torch.zeros_like(p) for p in parameters]
        own = [torch.autograd.grad(one, parameters, retain_graph=True, materialize_grads=True) for one in losses]
        expected = member.sum([torch.stack(each).sum(0) for each in zip(zeros, *own, strict=True)])
        sums = OverlappedSums(parameters, member, bucket_bytes=bucket_bytes)
        earlier = [torch.stack(each).sum(0) for each in zip(*own[:-1], strict=True)] if pieces > 1 and losses else []
        return sums.backward(losses[-1] if losses else None, earlier), expected

    for found, expected in in_threads(3, go):
        assert [one.shape for one in found] == [p.shape for p in model.parameters()]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_messages_start_while_the_backward_pass_still_runs() -> None:
    counting = Counting()
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2))

    def note(*_: object) -> None:
        counting.events.append("first layer")

    model[0].register_forward_hook(lambda layer, given, out: out.register_hook(note) and None)
    OverlappedSums(list(model.parameters()), counting, bucket_bytes=1).backward(model(torch.ones(2, 5)).sum(), [])
    starts = [place for place, event in enumerate(counting.events) if event.startswith("start")]
    assert [counting.events[place] for place in starts] == [f"start {size}" for size in (2, 6, 3, 12, 4, 20)]
    assert starts[3] < counting.events.index("first layer")
    assert counting.events[-6:] == ["wait"] * 6


def test_the_order_of_messages_does_not_depend_on_which_gradients_come() -> None:
    orders = []
    for sign in (1.0, -1.0):
        counting = Counting()
        model = Branching()
        sums = OverlappedSums(list(model.parameters()), counting, bucket_bytes=1)
        sums.backward(model(sign * torch.ones(2, 5)).sum(), [])
        orders.append([event for event in counting.events if event != "wait"])
    sums.backward(None, [])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 10


def test_gradients_of_a_step_stay_when_the_next_one_is_taken() -> None:
    model = nn.Linear(2, 1)
    sums = OverlappedSums(list(model.parameters()), Counting())
    first = sums.backward(model(torch.ones(1, 2)).sum(), [])
    kept = [one.clone() for one in first]
    sums.backward(model(5 * torch.ones(1, 2)).sum(), [])
    assert all(torch.equal(one, before) for one, before in zip(first, kept, strict=True))


def test_half_precision_is_summed_in_float32() -> None:
    model = nn.Linear(3, 2).bfloat16()
    found = OverlappedSums(list(model.parameters()), Counting()).backward(
        model(torch.ones(1, 3, dtype=torch.bfloat16)).sum(), []
    )
    assert {one.dtype for one in found} == {torch.float32}


@pytest.mark.parametrize("objective", ["standard", "pgd", "trades", "fast"])
def test_an_attack_on_the_inputs_sends_nothing(objective: str, blobs: Blobs, blob_bounds: Bounds) -> None:
    """One row of messages a step, however many gradients the attack takes."""
    counting = Counting()
    asked: dict[str, Any] = {"name": objective}
    if objective != "standard":
        asked["epsilon"] = 0.3
    if objective == "fast":
        asked["watch"] = None
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    trainer = build_trainer(
        model, Recipe(objective=asked, training=Training(epochs=1, batch_size=10)), *blobs(40), bounds=blob_bounds,
        seed=0, collective=counting,
    )  # fmt: skip
    counting.events.clear()
    trainer.run()
    assert [event for event in counting.events if event != "wait"] == ["start 34"] * 4 + ["explicit"]
    trainer.close()
    assert all(not p._post_accumulate_grad_hooks for p in model.parameters())  # type: ignore[attr-defined]


def test_private_gradients_are_summed_explicitly(blobs: Blobs, blob_bounds: Bounds, given_noise: float) -> None:
    counting = Counting()
    recipe = Recipe(privacy={"epsilon": 8.0}, training=Training(epochs=1, batch_size=10))
    trainer = build_trainer(nn.Linear(5, 2), recipe, *blobs(40), bounds=blob_bounds, seed=0, collective=counting)
    trainer.run()
    assert set(counting.events) == {"explicit"}


@pytest.mark.parametrize("batch_size", [16, 1], ids=["", "workers without records"])
def test_a_network_whose_layers_are_used_by_turns_trains_as_on_one_worker(
    batch_size: int, blobs: Blobs, blob_bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "BUCKET_BYTES", 100)
    torch.manual_seed(0)
    first = Branching().double()
    recipe = Recipe(training=Training(epochs=2, batch_size=batch_size, optimizer="sgd", learning_rate=0.02))

    def make(member: Member | None = None) -> Trainer:
        given = blobs(20, torch.float64)
        return build_trainer(copy.deepcopy(first), recipe, *given, bounds=blob_bounds, seed=1, collective=member)

    # A batch of one record takes one way, whichever worker has it; larger ones may take both.
    alone = make()
    alone.run()
    trainers = together(3, make)
    assert apart(trainers[0], trainers[1]) == apart(trainers[0], trainers[2]) == 0
    if batch_size == 1:
        assert apart(trainers[0], alone) <= 1e-12


def test_all_workers_are_told_that_training_diverges(blobs: Blobs, blob_bounds: Bounds) -> None:
    """Also those whose own records have finite losses."""
    recipe = Recipe(training=Training(epochs=1, batch_size=2, optimizer="sgd", learning_rate=1e-9))
    group = Group(2)

    def go(rank: int) -> str:
        x, y = blobs(40)
        if rank == 1:
            x = torch.full_like(x, torch.inf)
        trainer = build_trainer(
            nn.Linear(5, 2), recipe, x, y, bounds=blob_bounds, seed=0, collective=Member(group, rank)
        )
        with pytest.raises(TrainingError) as caught:
            trainer.run()
        return str(caught.value)

    assert len(in_threads(2, go)) == 2
