"""A probe asks the same records the same question, however many workers share them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.objectives.base import Batch
from assay.threats import Bounds
from assay.training.collective import Alone
from assay.training.feed import InMemory
from assay.training.hooks.probe import Probe, balanced_sample


class Fixed(nn.Module):
    """Answers class 1 where the first entry is positive, and NaN where it is above 9."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0].masked_fill(x[:, 0] > 9, torch.nan)
        return torch.stack([-score, score], 1)


class Share:
    """One of several workers; the sum is its own."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def agree(self, seed: int) -> int:
        return seed


@pytest.fixture
def make(blob_bounds: Bounds) -> Callable[..., Probe]:
    x = torch.tensor([[1.0], [2], [-1], [3], [-2], [-3], [99]])
    y = torch.tensor([1, 1, 1, 1, 0, 1, 0])

    def fresh(rows: tuple[int, ...] = (0, 1, 2, 4), **settings: object) -> Probe:
        about = {"bounds": blob_bounds, "seed": 1, "at_once": 3, "collective": Alone(), **settings}
        return Probe(InMemory(x, y), y, np.array(rows), **about)  # type: ignore[arg-type]

    return fresh


def as_is(model: nn.Module, batch: Batch) -> Tensor:
    return batch.x


def test_accuracy_counts_records_and_balanced_accuracy_classes(make: Callable[..., Probe]) -> None:
    assert make().accuracy(Fixed(), as_is) == 3 / 4
    assert make().balanced_accuracy(Fixed(), as_is) == (2 / 3 + 1) / 2
    assert make().accuracy(Fixed(), lambda _, batch: -batch.x) == 1 / 4
    assert len(make()) == 4


def test_a_class_without_records_is_no_part_of_the_mean(make: Callable[..., Probe]) -> None:
    assert make((0, 2)).balanced_accuracy(Fixed(), as_is) == 1 / 2
    assert make((4,)).balanced_accuracy(Fixed(), as_is) == 1


def test_what_is_not_finite_is_wrong(make: Callable[..., Probe]) -> None:
    assert make((4, 6)).accuracy(Fixed(), as_is) == 1 / 2


def test_random_numbers_are_the_same_at_every_look_and_in_every_share(make: Callable[..., Probe]) -> None:
    seen: list[Tensor] = []

    def draw(model: nn.Module, batch: Batch) -> Tensor:
        seen.append(torch.cat([batch.x, batch.draw.uniform(batch.x)], 1))
        return batch.x

    for _ in range(2):
        make().accuracy(Fixed(), draw)
    first, again = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert torch.equal(first, again)
    seen.clear()
    for rank in range(3):
        make(collective=Share(rank, 3)).accuracy(Fixed(), draw)
    shared = torch.cat(seen)
    assert torch.equal(shared[shared[:, 0].argsort()], first[first[:, 0].argsort()])


def test_the_model_is_asked_in_evaluation_mode(make: Callable[..., Probe]) -> None:
    modes: list[bool] = []
    model = nn.Sequential(Fixed())
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    make().accuracy(model.train(), as_is)
    assert modes == [False, False]


@pytest.mark.parametrize(("most", "expected"), [(4, [2, 2]), (7, [4, 3]), (100, [27, 3])])
def test_as_many_of_each_class_where_there_are(most: int, expected: list[int]) -> None:
    y = (np.arange(30) % 10 == 7).astype(int)
    rows = balanced_sample(y, most, generator=np.random.default_rng(0))
    assert np.bincount(y[rows]).tolist() == expected
    assert (np.diff(rows) > 0).all()
