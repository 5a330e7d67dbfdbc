"""Copies of records on both sides of a split: exact ones by hash, near ones by distance to the nearest record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from assay.data.base import Dataset, Lazy
from assay.data.fingerprints import Fingerprints
from assay.data.splits import LazyRows

NEAR = 0.05
"""Distance to the nearest training record, in multiples of the median, below which a record is a near copy."""
_MOST_TESTED, _MOST_TRAINED = 1_000, 20_000
"""Greatest numbers of records whose distances are computed, evenly spread: 20 million distances take a second."""
_MOST_NUMBERS = 256
"""Greatest number of values to which a record is reduced before distances are computed."""
_MOST_BYTES = 2**30
"""Greatest number of bytes that are read from files to compare images that are decoded on access."""
_PIECE = 1024


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Copies of test records among training records."""

    exact: np.ndarray
    """(tested,) position of an identical training record, -1 where there is none."""
    near: np.ndarray
    """(tested,) position of a nearly identical training record, -1 where there is none or none was searched."""
    near_looked_at: int
    """Number of test records whose nearest training record was searched."""
    near_by_chance: float
    """Fraction of them that would be as near by chance, if all records were spread evenly."""
    coarse: bool
    """Whether records can take so few values that equal ones are expected."""
    looked: bool = True
    """Whether records could be compared; if not, ``told`` gives the reason."""
    told: str
    """Description of the search and its limits."""


def copies_of(dataset: Dataset, test: np.ndarray, train: np.ndarray) -> Copies:
    """Finds test records that also occur among the training records, whatever their labels.

    Near copies: each record is reduced to at most 256 numbers (images and signals by averages of neighbouring values,
    tables by standardisation, wide ones by random projection). A record is a near copy if its distance to the nearest
    training record, exact copies excluded, is less than ``NEAR`` times the median distance. The number that is expected
    by chance follows from the intrinsic dimension of the records (by the ratio of their two nearest distances, Facco et
    al. 2017, arXiv:1803.06992): a fraction c of the median distance has the probability 1 - 2^-(c^dimension).

    Shifted, mirrored or recoloured copies are not found.

    Args:
        dataset: the data.
        test: positions of the test records.
        train: positions of the training records.

    Returns:
        The copies, with a description of the search.
    """
    nowhere = np.full(len(test), -1)
    none = Copies(exact=nowhere, near=nowhere, near_looked_at=0, near_by_chance=0.0, coarse=False, told="")
    if dataset.written is not None or isinstance(dataset.x, np.ndarray):
        x = dataset.x if dataset.written is None else dataset.written
        assert isinstance(x, np.ndarray)
        hashes = dataset.fingerprints if dataset.written is None else Fingerprints(x)
        exact = _same([hashes.of(rows).tolist() for rows in (test, train)], train)
        if dataset.written is not None:
            return replace(none, exact=exact, told="texts compared word by word; near copies were not looked for")
        near, looked, chance = _near(dataset, test, train, exact)
        coarse = _coarse(x, np.concatenate([test, train]))
        return replace(
            none, exact=exact, near=near, near_looked_at=looked, near_by_chance=chance, coarse=coarse,
            told=f"records compared number by number; near ones by distance, of {looked} tested records",
        )  # fmt: skip
    digests, description = _of_files(dataset.x, test, train)
    if digests is None:
        return replace(none, looked=False, told=description)
    return replace(none, exact=_same(digests, train), told=description)


def _same(digests: Sequence[Sequence[bytes]], train: np.ndarray) -> np.ndarray:
    tested, trained = digests
    place = dict(zip(reversed(trained), reversed(train.tolist()), strict=True))
    return np.array([place.get(digest, -1) if digest else -1 for digest in tested], np.int64)


def _of_files(x: Lazy, test: np.ndarray, train: np.ndarray) -> tuple[list[list[bytes]] | None, str]:
    """Returns digests of the files of both sides where sizes agree; None and the reason where none can be compared."""
    rows = [test, train]
    source: Any = x
    while isinstance(source, LazyRows):
        rows, source = [source.rows[side] for side in rows], source.whole
    sizes_of, digest_of = getattr(source, "sizes", None), getattr(source, "digest", None)
    if sizes_of is None or digest_of is None:
        return None, "not looked for: these records are decoded as they are needed, and nothing tells them apart before"
    sizes = [np.array(sizes_of(side)) for side in rows]
    both = np.intersect1d(sizes[0], sizes[1])
    wanted = [np.flatnonzero(np.isin(side, both)) for side in sizes]
    weight = sum(int(side[places].sum()) for side, places in zip(sizes, wanted, strict=True))
    if weight > _MOST_BYTES:
        return None, f"not looked for: {weight / 2**30:.1f} GiB of image files of equal sizes would have to be read"
    digests = [[b""] * len(side) for side in rows]
    for side, places, side_digests in zip(rows, wanted, digests, strict=True):
        for place in places.tolist():
            side_digests[place] = digest_of(int(side[place]))
    return digests, "image files compared byte by byte; near copies were not looked for, since images are decoded late"


def _coarse(x: np.ndarray, rows: np.ndarray) -> bool:
    """Returns whether there are fewer than ten possible records for each actual one, given the values that occur."""
    if x[0].size > 64:
        return False
    seen = x[rows].reshape(len(rows), -1)
    return sum(math.log(len(np.unique(column))) for column in seen.T) < math.log(10 * len(rows))


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _near(dataset: Dataset, test: np.ndarray, train: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, int, float]:
    """Returns (tested,) near copies, the number of records that were searched, and the fraction expected by chance."""
    copies = np.full(len(test), -1)
    places = _evenly(np.flatnonzero(exact < 0), _MOST_TESTED)
    trained = _evenly(train, _MOST_TRAINED)
    if len(places) < 10 or len(trained) < 10:
        return copies, 0, 0.0
    numbers = _brought(dataset, [test[places], trained])
    nearest, distances = _two_nearest(*numbers)
    median = float(np.median(distances[:, 0]))
    # Estimated without near copies: their distances do not reflect the distribution of the others.
    usual = distances[distances[:, 0] > NEAR * median]
    ratios = np.log(np.maximum(usual[:, 1], 1e-30) / np.maximum(usual[:, 0], 1e-30))
    dimension = len(usual) / max(float(ratios.sum()), 1e-9)
    close = distances[:, 0] < NEAR * median
    copies[places[close]] = trained[nearest[close]]
    return copies, len(places), float(1 - 2 ** -(NEAR**dimension))


def _two_nearest(tested: torch.Tensor, trained: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Returns (tested,) the nearest training record, and (tested, 2) the distances to the two nearest."""
    nearest, distances = [], []
    for piece in tested.split(_PIECE):
        # Products are fast but inexact for near records: they select candidates, exact differences decide.
        squares = (trained**2).sum(1) - 2 * piece @ trained.T
        candidates = squares.topk(min(8, len(trained)), 1, largest=False).indices
        exact = (piece[:, None] - trained[candidates]).norm(dim=2)
        shortest = exact.topk(2, 1, largest=False)
        nearest.append(candidates.gather(1, shortest.indices[:, :1])[:, 0])
        distances.append(shortest.values)
    return torch.cat(nearest).numpy(), torch.cat(distances).double().numpy()


def _brought(dataset: Dataset, sides: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Returns the records of both sides as at most 256 numbers each."""
    values = [torch.cat([_few(dataset, side[i : i + _PIECE]) for i in range(0, len(side), _PIECE)]) for side in sides]
    mean, deviation = values[1].mean(0), values[1].std(0)
    scale = torch.where(deviation > 0, deviation, 1.0) if dataset.modality == "tabular" else 1.0
    return [(side_values - mean) / scale for side_values in values]


def _few(dataset: Dataset, rows: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.asarray(dataset.x[rows], np.float32))
    if x.dim() == 4:
        x = F.adaptive_avg_pool2d(x.mean(1), (min(16, x.shape[2]), min(16, x.shape[3])))
    elif x.dim() == 3:
        x = F.adaptive_avg_pool1d(x, max(1, min(x.shape[2], _MOST_NUMBERS // x.shape[1])))
    flat = x.flatten(1)
    if flat.shape[1] <= _MOST_NUMBERS:
        return flat
    generator = torch.Generator().manual_seed(0)
    return flat @ torch.randn(flat.shape[1], _MOST_NUMBERS, generator=generator) / _MOST_NUMBERS**0.5
