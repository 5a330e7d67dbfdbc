"""A canary moves its own weight by the clipping norm and nothing else; real records never notice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.data.base import Lazy
from assay.privacy.clipping import PerRecordGradients
from assay.threats import Bounds
from assay.training.canaries import LABEL, InTensors, Numbered, Planted, numbered_bounds
from assay.training.feed import Decoded, Feed, InMemory

Blobs = Callable[..., tuple[Tensor, Tensor]]
NORM = 0.5


def numbered(network: nn.Module, **settings: Any) -> Numbered:
    return Numbered(network, **{"canaries": 6, "classes": 2, "max_grad_norm": NORM, **settings})


def sums(model: Numbered, x: Tensor, y: Tensor, clipping: Any = "flat") -> dict[str, Tensor]:
    """The clipped sum of a batch, by name of the parameter."""
    engine = PerRecordGradients(model, clipping=clipping)
    found = engine.clipped_sum(F.cross_entropy(model(x), y, reduction="none"), NORM)
    engine.remove()
    return dict(zip(dict(model.named_parameters()), found, strict=True))


def planted(blobs: Blobs, numbers: list[int]) -> Planted:
    return Planted(InMemory(*blobs(8)), np.array(numbers))


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("moved", [0.0, 1e3, -1e3])
def test_a_canary_moves_its_own_weight_by_the_clipping_norm(
    network: Callable[..., nn.Module], blobs: Blobs, clipping: str, moved: float
) -> None:
    model, feed = numbered(network()), planted(blobs, [2, 5])
    with torch.no_grad():
        model.tables[0].weight += moved
    ((x, y),) = feed.follow([np.array([8, 9])])
    found = sums(model, x, y, clipping)
    expected = torch.zeros(7)
    expected[[2, 5]] = NORM
    torch.testing.assert_close(found.pop("tables.0.weight")[:, 0], expected, rtol=1e-4, atol=0)
    assert not any(bool(gradient.any()) for gradient in found.values())


def test_real_records_move_what_they_move_without_canaries(network: Callable[..., nn.Module], blobs: Blobs) -> None:
    model, feed = numbered(network()), planted(blobs, [1, 3])
    ((x, y),) = feed.follow([np.array([9, 2, 5, 8])])
    found = sums(model, x, y)
    engine, own = PerRecordGradients(model.network), blobs(8)
    losses = F.cross_entropy(model.network(own[0][[2, 5]]), own[1][[2, 5]], reduction="none")
    for name, gradient in zip(dict(model.network.named_parameters()), engine.clipped_sum(losses, NORM), strict=True):
        torch.testing.assert_close(found[f"network.{name}"], gradient)
    assert torch.equal(found["tables.0.weight"][:, 0].nonzero()[:, 0], torch.tensor([1, 3]))


def test_clipping_by_layer_leaves_a_canary_nearly_the_whole_norm(
    network: Callable[..., nn.Module], blobs: Blobs
) -> None:
    model, feed = numbered(network(), tables=6), planted(blobs, [4])
    ((x, y),) = feed.follow([np.array([8, 0])])
    for parameter, gradient in zip(model.parameters(), sums(model, x, y, "per_layer").values(), strict=True):
        parameter.grad = gradient
    expected = torch.zeros(6)
    expected[3] = NORM * (6 / 8) ** 0.5
    torch.testing.assert_close(model.released(), expected, rtol=1e-4, atol=1e-9)


def test_a_student_learns_of_a_canary_what_its_teacher_did_not_know(network: Callable[..., nn.Module]) -> None:
    x = torch.zeros(1, 6)
    x[0, -1] = 3
    teacher, student = (numbered(network(), stage=stage) for stage in (0, 1))
    for temperature in (1.0, 20.0, 100.0):
        taught = (teacher(x).detach() / temperature).softmax(1)
        loss = -(taught * (student(x) / temperature).log_softmax(1)).sum()
        (gradient,) = torch.autograd.grad(loss, student.tables[0].weight)
        assert float(gradient[3]) > 100 * NORM


class Stored:
    """Records that must be asked for, one at least."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.shape, self.dtype, self.ndim = x, x.shape, x.dtype, x.ndim

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.stack([self.x[row] for row in rows])

    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize("kind", ["tabular", "image", "words", "decoded"])
def test_records_come_with_their_numbers_in_the_order_asked_for(kind: str) -> None:
    shape = {"tabular": (3,), "image": (2, 4, 4), "words": (5,), "decoded": (2, 4)}[kind]
    x = torch.arange(6 * int(np.prod(shape))).view(6, *shape)
    x, y = x if kind == "words" else x.float(), torch.arange(6) % 3
    inner: Feed = InMemory(x, y)
    if kind == "decoded":
        lazy: Lazy = Stored(x.numpy())
        inner = Decoded(lazy, y.numpy(), np.arange(6), device=torch.device("cpu"))
    feed = Planted(inner, np.array([7, 2]))
    assert len(feed) == 8
    mixed, only_canaries, only_real = feed.follow([np.array([7, 0, 6, 4]), np.array([6]), np.array([5])])
    records, labels = mixed
    assert records.dtype == x.dtype
    assert records[:, -1].flatten(1).amax(1).tolist() if records.dim() > 2 else records[:, -1].tolist() == [2, 0, 7, 0]
    assert records[:, -1].reshape(4, -1)[:, 0].tolist() == [2, 0, 7, 0]
    assert torch.equal(records[[1, 3], :-1], x[[0, 4]])
    assert labels.tolist() == [LABEL, 0, LABEL, 1]
    assert only_canaries[0][:, -1].reshape(1, -1)[0, 0] == 7
    assert torch.equal(only_real[0][:, :-1], x[[5]])
    assert feed.labels(y).tolist() == [*y.tolist(), LABEL, LABEL]


def test_nobody_can_change_a_number() -> None:
    fixed = torch.tensor([True, False, False])
    bounds = numbered_bounds(Bounds(low=torch.tensor(-1.0), high=torch.tensor(1.0), fixed=fixed), (3,), canaries=9)
    x = torch.tensor([[0.5, 0.5, 0.5, 9.0]])
    assert bounds.confine(x + 2.0, x).tolist() == [[0.5, 1.0, 1.0, 9.0]]


def test_canaries_in_tensors_cover_every_tensor_and_add_the_norm_along_one_coordinate_each() -> None:
    sizes, numbers = [30, 5, 2, 1], np.arange(11, 24)
    planted = InTensors(sizes, numbers, length=NORM, generator=np.random.default_rng(0))
    assert set(planted.tensors.tolist()) == {0, 1, 2, 3}
    places = list(zip(planted.tensors.tolist(), planted.coordinates.tolist(), strict=True))
    assert len(set(places)) == len(numbers)
    total = [torch.ones(5, 6), torch.ones(5), torch.ones(2), torch.ones(1)]
    found = planted.add([one.clone() for one in total], np.array([3, 12, 15]))
    moved = torch.cat([(a - b).flatten() for a, b in zip(found, total, strict=True)])
    assert moved.nonzero().shape[0] == 2
    assert moved[moved > 0].tolist() == [NORM, NORM]


def test_a_canary_that_lives_elsewhere_has_no_gradient_of_its_own(
    network: Callable[..., nn.Module], blobs: Blobs
) -> None:
    model, feed = numbered(network(), elsewhere=2), planted(blobs, [2, 5, 6])
    ((x, y),) = feed.follow([np.array([8, 9, 10])])
    found = sums(model, x, y)
    table = found.pop("tables.0.weight")[:, 0]
    assert table.nonzero()[:, 0].tolist() == [2]
    assert not any(bool(gradient.any()) for gradient in found.values())
