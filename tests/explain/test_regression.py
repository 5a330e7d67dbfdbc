"""The regression on many sets of features gives what one solution for each set gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from assay.explain.measures.replacements import regression
from assay.explain.measures.replacements.regression import Regression

D, N = 7, 4
Sets = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def nested(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """As the states of a curve: features go one after the other, and each record has an order of its own."""
    rank = torch.rand(N, D, generator=draw).argsort(1)
    record = torch.arange(N).repeat(D + 1)
    return record, rank[record] >= torch.arange(D + 1).repeat_interleave(N)[:, None]


def one_less(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """As a step of a search that removes; the last record has one candidate left."""
    base = torch.rand(N, D, generator=draw) > 0.3
    base[:, :3] = True
    row, gone = base.nonzero(as_tuple=True)
    only = (row < N - 1) | (gone == 0)
    row, gone = row[only], gone[only]
    return row, base[row] & (torch.arange(D) != gone[:, None])


def one_more(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """As a step of a search that restores."""
    base = torch.rand(N, D, generator=draw) > 0.6
    base[:, :3] = False
    row, new = (~base).nonzero(as_tuple=True)
    return row, base[row] | (torch.arange(D) == new[:, None])


def some_as_they_are(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sets with one feature more than those they share, and these themselves, which hold the first feature."""
    shared = torch.rand(N, D, generator=draw) > 0.6
    shared[:, 0], shared[:, 1:4] = True, False
    new = [(n, torch.arange(D) == place) for n in range(N) for place in (1, 2, 3)]
    row = torch.tensor([*range(N), *(n for n, _ in new)])
    return row, torch.cat([shared, torch.stack([shared[n] | only for n, only in new])])


def anything(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(N, (40,), generator=draw), torch.rand(40, D, generator=draw) > 0.5


def alone(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One set a record, among them nothing and everything."""
    kept = torch.rand(N, D, generator=draw) > 0.5
    kept[0], kept[1] = False, True
    return torch.arange(N), kept


@pytest.fixture(params=range(3))
def draw(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


@pytest.fixture
def correlations(draw: torch.Generator) -> Tensor:
    """Of features that are nearly copies of each other, among others."""
    x = torch.randn(200, D, generator=draw, dtype=torch.float64)
    x[:, 1] = x[:, 0] + 0.05 * x[:, 1]
    return torch.corrcoef(x.T)


@pytest.mark.parametrize("most", [1, 2, 1000], ids=lambda most: f"{most} records at once")
@pytest.mark.parametrize("sets", [nested, one_less, one_more, some_as_they_are, anything, alone])
def test_each_set_has_its_own_solution(
    sets: Sets, most: int, correlations: Tensor, draw: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "_ENTRIES", most * D * D)
    record, kept = sets(draw)
    mixed = torch.randperm(len(record), generator=draw)
    record, kept = record[mixed], kept[mixed]
    values = torch.randn(N, D, generator=draw, dtype=torch.float64)
    found = Regression(correlations).weights(record, kept, values)
    for row, places, weights in zip(record, kept, found, strict=True):
        expected = torch.zeros(D, dtype=torch.float64)
        expected[places] = torch.linalg.solve(correlations[places][:, places], values[row][places])
        torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sets", "matrices"), [(nested, N), (one_less, N), (one_more, N), (anything, 40)])
def test_sets_that_differ_by_little_share_a_factor(
    sets: Sets, matrices: int, correlations: Tensor, draw: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    factored: list[int] = []

    def counted(given: Tensor) -> Tensor:
        factored.append(len(given))
        return torch.linalg.cholesky_ex(given).L

    monkeypatch.setattr(torch.linalg, "cholesky", counted)
    record, kept = sets(draw)
    Regression(correlations).weights(record, kept, torch.zeros(N, D, dtype=torch.float64))
    assert sum(factored) == matrices


def test_no_set_has_no_solution(correlations: Tensor) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    found = Regression(correlations).weights(none, torch.zeros(0, D, dtype=torch.bool), torch.zeros(0, D))
    assert found.shape == (0, D)
