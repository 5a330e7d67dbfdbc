"""Rows on measures of a map against a truth: empty maps, ties, area, batches, arguments."""

from typing import Any

import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredMap
from assay.explain.measures.curves import AreaBetween
from assay.explain.measures.randomisation import rank_agreement
from assay.explain.measures.sparseness import Sparseness
from assay.explain.measures.subsets import Infidelity
from assay.explain.measures.truth import (
    average_precision,
    enrichment,
    known_mean,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from tests.benchmarks.known_answers.curves import measured
from tests.benchmarks.known_answers.networks import linear
from tests.benchmarks.known_answers.row import Row, below, between, numbers_near, says

MAP = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
MEASURES = (relevance_mass, relevance_rank, pointing_game, average_precision, enrichment)


def _mask(*of_features: int) -> Tensor:
    return torch.tensor([of_features]).bool()


def _said(of_records: Tensor) -> str:
    """How a record without an answer is shown."""
    found = known_mean(of_records)
    return f"left out: {found.left_out}" if found.n == 0 else f"{found.value:g}"


def _uniform(share: int) -> float:
    return float(enrichment(torch.ones(1, 100), (torch.arange(100) < share)[None]))


def _batches() -> float:
    """Greatest change of a score of a record by its batch."""
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.randn(64, 30, generator=generator), torch.rand(64, 30, generator=generator) < 0.3
    maps[1], maps[2] = 1e6 * maps[1], 0
    worst = 0.0
    for measure in MEASURES:
        whole = measure(maps, truth)
        for size in (1, 7):
            pieces = torch.cat([measure(*part) for part in zip(maps.split(size), truth.split(size), strict=True)])
            worst = max(worst, float((pieces - whole).nan_to_num().abs().max()))
            assert torch.equal(pieces.isnan(), whole.isnan())
    return worst


def _arguments() -> str:
    model = linear(*[1.0] * 4)
    x, scores, truth = torch.ones(1, 4), MAP.clone(), _mask(1, 0, 1, 0)
    model = model.to(x)
    before = [given.numpy().tobytes() for given in (x, scores, truth)]
    for measure in MEASURES:
        measure(scores, truth)
    records = measured(model, x, torch.zeros(1, 4))
    for kind in (AreaBetween, Infidelity, Sparseness):
        kind().score(records, MeasuredMap(values=scores))
    rank_agreement(scores, scores, truth)
    return "as before" if before == [given.numpy().tobytes() for given in (x, scores, truth)] else "changed"


def _both_counts() -> list[Any]:
    """Mean over the cases that were found, and how many were not."""
    maps = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    found = known_mean(pointing_game(maps, torch.tensor([[True, False]] * 4)))
    return [found.value, float(found.n), float(found.left_out)]


ROWS = (
    Row(
        fault="B1",
        name="empty_truth",
        input="pointing game of a map (3, 1, 0, 0) where the truth is empty",
        right="left out, and counted",
        accepts=says("left out: 1"),
        assay=lambda: _said(pointing_game(MAP, _mask(0, 0, 0, 0))),
    ),
    Row(
        fault="B1",
        name="empty_map",
        input="pointing game of a map of zeros where the truth is (1, 0, 0, 0)",
        right="left out, and counted",
        accepts=says("left out: 1"),
        assay=lambda: _said(pointing_game(0 * MAP, _mask(1, 0, 0, 0))),
    ),
    Row(
        fault="B1",
        name="weighted_score",
        input="a map on a truth of a quarter of the features: score weighted by area, over that of the whole map",
        right="not 0 or 1: the area counts; enrichment 4",
        accepts=between(1.01, 4.0),
        assay=lambda: float(enrichment(MAP * torch.tensor([[1.0, 0, 0, 0]]), _mask(1, 0, 0, 0))),
    ),
    Row(
        fault="B7",
        name="batches",
        input="64 maps, one a million times greater, one empty: change of a score of truth by batches of 1, 7, 64",
        right="0",
        accepts=below(0.0),
        assay=_batches,
    ),
    Row(
        fault="B8",
        name="arguments",
        input="bytes of maps, records and masks after measures of them",
        right="as before",
        accepts=says("as before"),
        assay=_arguments,
    ),
    Row(
        fault="B11",
        name="ties_of_ranks",
        input="relevance rank of a constant map of ten features, the first three are the truth",
        right="0.3: that of a random order",
        accepts=between(0.29, 0.31),
        assay=lambda: float(relevance_rank(torch.ones(1, 10), (torch.arange(10) < 3)[None])),
    ),
    Row(
        fault="B11",
        name="ties_of_points",
        input="pointing game of a constant map of ten features, the first three are the truth",
        right="0.3",
        accepts=between(0.29, 0.31),
        assay=lambda: float(pointing_game(torch.ones(1, 10), (torch.arange(10) < 3)[None])),
    ),
    Row(
        fault="B12",
        name="uniform_map",
        input="share inside of a uniform map where the truth is 35 % of the features, as it is shown",
        right="1: no better than chance, whatever the area",
        accepts=between(0.999, 1.001),
        assay=lambda: _uniform(35),
    ),
    Row(
        fault="B12",
        name="uniform_maps_of_two_areas",
        input="the same for truths of 5 % and of 80 %: quotient of the two figures",
        right="1",
        accepts=between(0.999, 1.001),
        assay=lambda: _uniform(80) / _uniform(5),
    ),
    Row(
        fault="B17",
        name="dropped_cases",
        input="hits of four maps, two right, one wrong, one empty: mean, records in it, records left out",
        right="(2/3, 3, 1)",
        accepts=numbers_near(2 / 3, 3, 1),
        assay=_both_counts,
    ),
)
