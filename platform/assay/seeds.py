"""Random numbers without state: every draw is a function of the seed and of the purpose of the draw.

A generator is created for each purpose (``stream(seed, "noise", step)``). So a resumed run needs no generator state,
clients and folds never share a stream, and the number of workers has no effect.

NumPy's Philox takes a 128-bit key. PyTorch's CPU generator keeps only 32 bits of a seed. That is too few to protect the
noise of private training: an attacker can try all of them.
"""

import hashlib
import json
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

SeedName = str | int

_BLOCK = 4 << 20
"""Greatest count of numbers that are drawn together, unless one record has more."""


def derive(seed: int, *names: SeedName) -> int:
    """Returns the 128-bit seed of one purpose, the same on every machine.

    Args:
        seed: of the trial.
        names: that identify the purpose, such as ``"noise"`` and the step.

    Returns:
        An integer from 0 to 2**128 − 1.
    """
    text = json.dumps([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def stream(seed: int, *names: SeedName) -> np.random.Generator:
    """Returns the generator of one purpose; equal arguments give equal draws.

    Args:
        seed: of the trial.
        names: that identify the purpose, such as ``"noise"`` and the step.

    Returns:
        A new NumPy generator.
    """
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))


def stream_when_used(seed: int, *names: SeedName) -> Callable[[], np.random.Generator]:
    """Returns a function that returns the generator of one purpose, always the same one, made at the first call.

    Most training steps draw nothing, and a generator takes as long to make as a step of a small network.

    Args:
        seed: of the trial.
        names: that identify the purpose, as for ``stream``.

    Returns:
        The function.
    """
    return cache(partial(stream, seed, *names))


def client_seed(seed: int, number: int) -> int:
    """Returns the seed of one client's training. It depends on the client and not on the worker that hosts it.

    Args:
        seed: of the federated training.
        number: of the client, from 1.

    Returns:
        The seed.
    """
    return derive(seed, "client", number)


def entropy() -> int:
    """Returns a 128-bit seed from the operating system, for draws that must not be repeatable.

    Returns:
        An integer from 0 to 2**128 − 1.
    """
    return secrets.randbits(128)


def torch_seed(seed: int, *names: SeedName) -> int:
    """Returns a seed for ``torch.manual_seed``: for initial weights, and for layers whose draws need not be secret.

    Args:
        seed: of the trial.
        names: that identify the purpose.

    Returns:
        An integer from 0 to 2**63 − 1.
    """
    return derive(seed, *names) % 2**63


def seed_layers(seed: int) -> None:
    """Seeds torch's generators on the CPU and on accelerators in use, from which layers such as dropout draw.

    ``torch.manual_seed`` does so too, but until CUDA is used it stores a stack trace at every call: 0.3 ms, never
    freed.

    Args:
        seed: for ``torch.manual_seed``.
    """
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restores torch's generators at the end of the block: that of the CPU, and of the GPU where one is in use.

    ``torch.random.fork_rng`` by itself initialises every GPU that it finds, and warns where there are several.
    """
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        yield


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and torch for a block, and restores their states at its end.

    It is for code of others that draws from them; code of Assay draws from ``stream``.

    Args:
        seed: from ``derive``.
    """
    python, numpy_state = random.getstate(), np.random.get_state()
    with generators_kept():
        random.seed(seed)
        np.random.seed([seed >> shift & 0xFFFFFFFF for shift in range(0, 128, 32)])
        seed_layers(seed % 2**63)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


class Draw:
    """The random numbers of one batch, the same however the batch is spread over workers.

    Args:
        generator: where the numbers come from, or a function that returns it, always the same one.
        total: number of records of the whole batch.
        rows: positions of this worker's records within the whole batch; all of them by default.
    """

    def __init__(
        self,
        generator: np.random.Generator | Callable[[], np.random.Generator],
        total: int,
        rows: np.ndarray | None = None,
    ) -> None:
        self._source = generator
        self._total = total
        self._rows = rows

    def uniform(self, like: Tensor) -> Tensor:
        """Draws uniform numbers in [-1, 1).

        Args:
            like: (n, ...) gives shape, data type and device.

        Returns:
            (n, ...) numbers.
        """
        return self._own(lambda shape: self._generator.random(shape, dtype=np.float32) * 2 - 1, like)

    def normal(self, like: Tensor) -> Tensor:
        """Draws standard normal numbers.

        Args:
            like: (n, ...) gives shape, data type and device.

        Returns:
            (n, ...) numbers.
        """
        return self._own(lambda shape: self._generator.standard_normal(shape, np.float32), like)

    def seed(self) -> int:
        """Draws a seed for another library's generator, one for the whole batch.

        Returns:
            An integer from 0 to 2**63 − 1.
        """
        return int(self._generator.integers(2**63))

    def of(self, rows: Tensor) -> "Draw":
        """Returns the draws of some of this worker's records; each record keeps its numbers.

        Args:
            rows: (k,) positions among this worker's records.

        Returns:
            Draws of these k records, from the same generator.
        """
        positions = np.arange(self._total) if self._rows is None else self._rows
        return Draw(self._source, self._total, positions[rows.cpu().numpy()])

    @property
    def _generator(self) -> np.random.Generator:
        return self._source if isinstance(self._source, np.random.Generator) else self._source()

    def _own(self, drawn: Callable[[tuple[int, ...]], np.ndarray], like: Tensor) -> Tensor:
        """Draws the numbers of the whole batch, a block at a time, and keeps those of this worker's records."""
        shape = like.shape[1:]
        rows = np.arange(self._total) if self._rows is None else self._rows
        kept = np.empty((len(rows), *shape), np.float32)
        size = max(1, _BLOCK // max(1, shape.numel()))
        for start in range(0, self._total, size):
            values = drawn((min(size, self._total - start), *shape))
            here = (rows >= start) & (rows < start + len(values))
            kept[here] = values[rows[here] - start]
        return torch.from_numpy(kept).to(device=like.device, dtype=like.dtype)
