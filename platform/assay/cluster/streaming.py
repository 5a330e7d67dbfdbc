"""Records bigger than memory: Ray Data decodes them in the order of an epoch, a little ahead of the training steps."""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import ExecutionResources, TaskPoolStrategy
from ray.exceptions import RayTaskError
from torch import Tensor

from assay.data.base import Lazy
from assay.errors import UserError

_BLOCK = 8 << 20
"""Bytes that one task decodes, at most, unless a single record is larger."""
_AHEAD = 4
"""Blocks that lie ready for a training worker, for each of its decoding tasks."""
_MOST_READERS = 8
"""Decoding tasks that one training worker keeps busy at a time, at most."""


class Streamed:
    """A ``Feed`` of records that tasks of Ray Data decode, wherever in the cluster a processor is idle.

    The records come in the order of the batches, whatever their sizes, so a streamed training is the very training
    that has its records in memory. Of the records only a bounded number lies in the object store at any time; of
    their positions, and of the blocks that hold them, a whole epoch does.

    Decoding tasks reserve no processor: training workers may reserve all that there are, and a task that then had to
    wait for one would be waited for by those who hold it. How many run at a time is bounded instead.

    Args:
        x: decoded where the tasks run: every node must reach what it reads, under the same path.
        y: (n,) labels of all records.
        rows: which of the records to learn from.
        device: where the batches go.
        readers: decoding tasks at a time; see ``readers_of``.
    """

    def __init__(self, x: Lazy, y: np.ndarray, rows: np.ndarray, *, device: torch.device, readers: int = 1) -> None:
        self._x, self._y, self._rows = x, y, rows
        self._readers = readers
        self._kept = ray.put(x)
        self.device = device
        # Ray Data tells every epoch's begin and end, and an error that is raised it tells as well.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)

    def __len__(self) -> int:
        return len(self._rows)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """See ``Feed``.

        Raises:
            UserError: what a record's own decoding raised, such as a ``DataError`` that names a file.
        """
        wanted = [self._rows[positions] for positions in batches]
        if not wanted:
            return
        try:
            with closing(self._records(np.concatenate(wanted), longest=max(map(len, wanted)))) as stream:
                for place, rows in enumerate(wanted, start=1):
                    found = list(islice(stream, len(rows)))
                    assert [row for row, _ in found] == rows.tolist(), "Ray Data changed the order of the records"
                    x = torch.from_numpy(np.stack([record for _, record in found]))
                    # Read to its end, Ray Data puts its threads away; given up one record before, it may keep them.
                    if place == len(wanted):
                        assert next(stream, None) is None, "Ray Data gave more records than were asked for"
                    yield x.to(self.device), torch.from_numpy(self._y[rows]).to(self.device)
        except RayTaskError as error:
            if isinstance(error.cause, _RefusedError):
                raise error.cause.args[0] from None
            raise

    def _records(self, rows: np.ndarray, *, longest: int) -> Generator[tuple[int, np.ndarray], None, None]:
        """One record after the other, each behind its position."""
        size = int(np.prod(self._x.shape[1:])) * self._x.dtype.itemsize
        block = max(1, min(longest, _BLOCK // size))
        parts = np.split(rows, range(block, len(rows), block))
        planned = ray.data.from_blocks([pa.table({"row": part}) for part in parts])
        _settle(planned.context, memory=_AHEAD * self._readers * block * size)
        decoded = planned.map_batches(
            _decode,
            fn_args=([self._kept],),
            batch_size=None,
            batch_format="numpy",
            compute=TaskPoolStrategy(size=self._readers),
            num_cpus=0,
        )
        for piece in decoded.iter_batches(batch_size=None, batch_format="numpy"):
            yield from zip(piece["row"].tolist(), piece["x"], strict=True)


def readers_of(workers: int) -> int:
    """Decoding tasks for each of several training workers: its share of the cluster's processors."""
    return min(_MOST_READERS, max(1, int(ray.cluster_resources().get("CPU", 1)) // workers))


def _settle(context: Any, *, memory: int) -> None:
    """In the order asked for, at most so many bytes ahead, silently, and for as long as a training step may take."""
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=memory)
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1


def _decode(block: dict[str, np.ndarray], kept: list[ray.ObjectRef]) -> dict[str, np.ndarray]:
    """What each task does. The records are behind a reference: a task's own arguments are copied for each."""
    try:
        return {"row": block["row"], "x": ray.get(kept[0])[block["row"]]}
    except UserError as error:
        raise _RefusedError(error) from None


class _RefusedError(Exception):
    """Carries a user's error out of a task, unchanged: Ray Data writes advice of its own into every message."""
