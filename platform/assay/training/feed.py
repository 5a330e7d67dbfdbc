"""Feeds: where the records of a batch come from. The loop asks for records by position; a feed delivers them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Lazy


class Feed(Protocol):
    """Source of training records, in memory or streamed."""

    device: torch.device

    def __len__(self) -> int: ...

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the records of one batch after the other.

        A feed may read ahead: it is given all batches of an epoch at once.

        Args:
            batches: positions of the records of each batch.

        Yields:
            Records (n, ...) and labels (n,) of one batch, on ``device``.
        """
        ...


class InMemory:
    """Feed of records that are in one tensor.

    Args:
        x: (n, ...) records, on the device where training runs.
        y: (n,) labels.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._x, self._y = x, y
        self.device = x.device

    def __len__(self) -> int:
        return len(self._x)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in batches:
            rows = torch.from_numpy(positions).to(self.device)
            yield self._x[rows], self._y[rows]


class Decoded:
    """Feed of records that are decoded on demand, one batch ahead of the training step that uses them.

    Args:
        x: the records of the whole data set.
        y: labels of the whole data set.
        rows: (n,) positions of the training records in it.
        device: where batches are delivered.
    """

    def __init__(self, x: Lazy, y: np.ndarray, rows: np.ndarray, *, device: torch.device) -> None:
        self._x, self._y, self._rows = x, y, rows
        self.device = device

    def __len__(self) -> int:
        return len(self._rows)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = [reader.submit(self._read, positions) for positions in batches[:1]]
            for place in range(len(batches)):
                x, y = coming.pop().result()
                coming += [reader.submit(self._read, positions) for positions in batches[place + 1 : place + 2]]
                yield x.to(self.device), y.to(self.device)

    def _read(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = self._rows[positions]
        return torch.from_numpy(self._x[rows]), torch.from_numpy(self._y[rows])
