"""Data whose classes are told by small differences of values that vary together, and honest networks on them."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.planted.images import PlantedImages
from assay.data.planted.table import PlantedTable
from assay.evaluations.subject import Subject
from assay.explain.measures.replacements.smooth import blurred
from tests.benchmarks.known_answers.trained import Trainer, split_of, subject_of

COLUMNS = 12
SIDE = 16


def table(correlation: float = 0.9, draw: int = 0) -> Dataset:
    """Pairs of columns; the class is the sign of a sum of differences within the first three pairs.

    Args:
        correlation: of the two columns of a pair.
        draw: of the records.

    Returns:
        The data.
    """
    data = PlantedTable(draw=draw).load()
    generator = np.random.default_rng([7, draw])
    shared = generator.standard_normal((2 * len(data), COLUMNS // 2))
    apart = generator.standard_normal((2, *shared.shape))
    one, other = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * apart
    x = np.stack([one, other], 2).reshape(len(one), COLUMNS)
    score = (one - other)[:, :3] @ np.array([2.0, -1.5, 1.0])
    clear = np.flatnonzero((np.abs(score) > 0.3) & (np.abs(x) < 4).all(1))[: len(data)]
    names = tuple(f"column {number}" for number in range(COLUMNS))
    bound = np.full(COLUMNS, 4, np.float32)
    return replace(
        data,
        name="contrast_table",
        x=x[clear].astype(np.float32),
        y=(score[clear] > 0).astype(np.int64),
        feature_names=names,
        low=-bound,
        high=bound,
    )


def edges(detail: float = 0.2, draw: int = 0) -> Dataset:
    """Images of slopes and details; the class says in which direction brightness rises across an edge in the middle.

    Args:
        detail: deviation of a pixel by itself, beside that of the smooth field.
        draw: of the records.

    Returns:
        The data.
    """
    data = PlantedImages().load()
    count = len(data)
    generator = np.random.default_rng([8, draw])
    noise = torch.from_numpy(generator.standard_normal((2 * count, 1, SIDE, SIDE)))
    smooth = blurred(noise, 0.15)
    fine = detail * torch.from_numpy(generator.standard_normal(tuple(noise.shape)))
    level = 0.5 * torch.from_numpy(generator.standard_normal((2 * count, 1, 1, 1)))
    x = (0.5 + 0.1 * (smooth / smooth.std() + fine + level)).clip(0, 1).numpy()
    score = (x * edge_filter().numpy()).sum((1, 2, 3))
    clear = np.flatnonzero(np.abs(score) > 0.3 * score.std())[:count]
    return replace(data, name="contrast_edges", x=x[clear].astype(np.float32), y=(score[clear] > 0).astype(np.int64))


def edge_filter() -> Tensor:
    """Slopes of an edge: two neighbouring columns of pixels with opposite signs, in the middle rows."""
    found = torch.zeros(1, SIDE, SIDE)
    found[0, 4:12, 7], found[0, 4:12, 8] = -1.0, 1.0
    return found


class Planted(nn.Module):
    """A linear score with known slopes.

    Args:
        slopes: of an entry.
        middle: of the records, where the score is 0.
    """

    slopes: Tensor
    middle: Tensor

    def __init__(self, slopes: Tensor, middle: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes.flatten())
        self.register_buffer("middle", middle.flatten())

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - self.middle) @ self.slopes
        return torch.stack([-score, score], 1)


def _planted(data: Dataset, slopes: Tensor) -> Subject:
    split = split_of(data, seed=3, test=100, train=600)
    trainer = Trainer(data=data.prepared(split.train, seed=3), model={"name": "mlp"}, seed=3)
    middle = torch.from_numpy(np.asarray(trainer.data.x)[split.train].mean(0))
    return replace(subject_of(trainer, split, Planted(slopes, middle).eval()), train=None)


@cache
def difference() -> Subject:
    """A score that is the difference of two columns with a correlation of 0.9."""
    slopes = torch.zeros(COLUMNS)
    slopes[:2] = torch.tensor([3.0, -3.0])
    return _planted(table(), slopes)


@cache
def filtered(detail: float) -> Subject:
    """A score that is an edge of images with details, or without any."""
    return _planted(edges(detail), 10 * edge_filter())


@cache
def trained() -> Subject:
    """A network that has learnt differences of columns."""
    data = table()
    split = split_of(data, seed=3, test=100, train=600)
    model = {"name": "mlp", "hidden": (32,)}
    trainer = Trainer(data=data.prepared(split.train, seed=3), model=model, seed=3, training={"epochs": 12})
    return subject_of(trainer, split)


@cache
def smooth_score() -> Subject:
    """A linear score of smooth images whose slopes are smooth, too, so that values of neighbouring pixels are alike."""
    noise = torch.from_numpy(np.random.default_rng(9).standard_normal((1, 1, SIDE, SIDE)))
    slopes = blurred(noise, 0.15)[0].float()
    return _planted(edges(0.0), slopes - slopes.mean())
