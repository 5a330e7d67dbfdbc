"""Where the records of a batch come from. The loop says which records it wants, in order; a feed brings them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Lazy


class Feed(Protocol):
    """Records to learn from, wherever they lie."""

    device: torch.device

    def __len__(self) -> int: ...

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Records (n, ...) and labels (n,) of one batch of positions after the other, on the device.

        A feed may read ahead: it knows a whole epoch in advance.
        """
        ...


class InMemory:
    """Records that lie in one tensor."""

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
    """Records that are decoded as they are needed, one batch ahead of the training step that uses them."""

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
