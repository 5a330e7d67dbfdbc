"""Randomness without state: every draw is a function of the seed and of what the draw is for.

A generator is made afresh for each purpose (``stream(seed, "noise", step)``), so a resumed run needs no
generator state, clients and folds never share a stream, and the number of workers changes nothing.

NumPy's Philox takes a 128-bit key. PyTorch's CPU generator keeps 32 bits of any seed it is given, which is too
few to hide what private training draws: whoever tries all of them finds it.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

SeedName = str | int

_BLOCK = 4 << 20
"""Numbers that are drawn together, at most, unless one record has more."""


def derive(seed: int, *names: SeedName) -> int:
    """A 128-bit seed for one purpose, the same on every machine."""
    text = json.dumps([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def stream(seed: int, *names: SeedName) -> np.random.Generator:
    """The generator of one purpose. Equal arguments give equal draws."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))


def entropy() -> int:
    """A 128-bit seed from the operating system, for draws that nobody may repeat."""
    return secrets.randbits(128)


def torch_seed(seed: int, *names: SeedName) -> int:
    """A seed for ``torch.manual_seed``: first weights, and what layers draw where anyone may know it."""
    return derive(seed, *names) % 2**63


def seed_layers(seed: int) -> None:
    """Seed torch's generators, from which layers draw, of the processor and of accelerators in use.

    ``torch.manual_seed`` does so too, but keeps a stack trace at every call until CUDA is used: 0.3 ms, never freed.
    """
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards torch's generators are where they were: that of the processor, and of the GPU where one is in use.

    ``torch.random.fork_rng`` by itself wakes every GPU that it finds, and warns where there are several.
    """
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        yield


class Draw:
    """The random numbers of one batch, the same however the batch is spread over workers.

    Args:
        generator: where the numbers come from.
        total: number of records of the whole batch.
        rows: positions of this worker's records within the whole batch; all of them by default.
    """

    def __init__(self, generator: np.random.Generator, total: int, rows: np.ndarray | None = None) -> None:
        self._generator = generator
        self._total = total
        self._rows = rows

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform in [-1, 1), one value an element of ``like`` (n, ...)."""
        return self._own(lambda shape: self._generator.random(shape, dtype=np.float32) * 2 - 1, like)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, one value an element of ``like`` (n, ...)."""
        return self._own(lambda shape: self._generator.standard_normal(shape, np.float32), like)

    def seed(self) -> int:
        """One for a foreign generator, for the whole batch."""
        return int(self._generator.integers(2**63))

    def of(self, rows: Tensor) -> "Draw":
        """The same numbers, for the records at some positions of this worker's own."""
        own = np.arange(self._total) if self._rows is None else self._rows
        return Draw(self._generator, self._total, own[rows.cpu().numpy()])

    def _own(self, drawn: Callable[[tuple[int, ...]], np.ndarray], like: Tensor) -> Tensor:
        """All numbers of the batch are drawn, a block at a time, and this worker's own are kept."""
        shape = like.shape[1:]
        rows = np.arange(self._total) if self._rows is None else self._rows
        own = np.empty((len(rows), *shape), np.float32)
        size = max(1, _BLOCK // max(1, shape.numel()))
        for start in range(0, self._total, size):
            values = drawn((min(size, self._total - start), *shape))
            here = (rows >= start) & (rows < start + len(values))
            own[here] = values[rows[here] - start]
        return torch.from_numpy(own).to(device=like.device, dtype=like.dtype)
