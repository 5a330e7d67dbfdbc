"""Records larger than memory: Ray Data decodes them in the order of an epoch, a little ahead of the training steps."""

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
"""Greatest number of bytes that one task decodes, unless a single record is larger."""
_AHEAD = 4
"""Decoded blocks in reserve for a training worker, for each of its decoding tasks."""
_MOST_READERS = 8
"""Greatest number of decoding tasks of one training worker."""


class Streamed:
    """``Feed`` of records that tasks of Ray Data decode on idle processors of the cluster.

    The records arrive in the order of the batches, so a streamed training gives the same result as one with all records
    in
    memory. Only a limited number of records is in the object store at any time, but all positions of an epoch are.

    Decoding tasks reserve no CPU. Training workers may reserve all CPUs of the cluster, and a task that waited for one
    would
    block the workers that wait for its records. The number of simultaneous tasks is limited instead.

    Args:
        x: decoded where the tasks run: every node must be able to read its files under the same path.
        y: (n,) labels of all records.
        rows: positions of the records to train on.
        device: of the batches.
        readers: simultaneous decoding tasks; see ``readers_of``.
    """

    def __init__(self, x: Lazy, y: np.ndarray, rows: np.ndarray, *, device: torch.device, readers: int = 1) -> None:
        self._x, self._y, self._rows = x, y, rows
        self._readers = readers
        self._kept = ray.put(x)
        self.device = device
        # Ray Data logs the start and end of every epoch, and also logs errors that it raises.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)

    def __len__(self) -> int:
        return len(self._rows)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the records and labels of each batch; see ``Feed``.

        Args:
            batches: positions among the training records, one array per batch.

        Returns:
            Iterator over records, (n, ...), and labels, (n,), on the device.

        Raises:
            UserError: a record cannot be decoded, such as a ``DataError`` that names a file.
        """
        wanted = [self._rows[positions] for positions in batches]
        if not wanted:
            return
        try:
            with closing(self._records(np.concatenate(wanted), longest=max(map(len, wanted)))) as stream:
                for place, rows in enumerate(wanted, start=1):
                    batch = list(islice(stream, len(rows)))
                    assert [row for row, _ in batch] == rows.tolist(), "Ray Data changed the order of the records"
                    x = torch.from_numpy(np.stack([record for _, record in batch]))
                    # Ray Data ends its threads only when the stream is read to its end.
                    if place == len(wanted):
                        assert next(stream, None) is None, "Ray Data gave more records than were asked for"
                    yield x.to(self.device), torch.from_numpy(self._y[rows]).to(self.device)
        except RayTaskError as error:
            if isinstance(error.cause, _RefusedError):
                raise error.cause.args[0] from None
            raise

    def _records(self, rows: np.ndarray, *, longest: int) -> Generator[tuple[int, np.ndarray], None, None]:
        """Yields the records one by one, each with its position."""
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
    """Returns the number of decoding tasks for each training worker: its share of the CPUs of the cluster.

    Args:
        workers: training workers.

    Returns:
        From 1 to 8.
    """
    return min(_MOST_READERS, max(1, int(ray.cluster_resources().get("CPU", 1)) // workers))


def _settle(context: Any, *, memory: int) -> None:
    """Sets the order of records, the memory limit in bytes, no output, and no time limit for a training step."""
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=memory)
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1


def _decode(block: dict[str, np.ndarray], kept: list[ray.ObjectRef]) -> dict[str, np.ndarray]:
    """Decodes a block. The records are passed by reference, because arguments of a task are copied for each task."""
    try:
        return {"row": block["row"], "x": ray.get(kept[0])[block["row"]]}
    except UserError as error:
        raise _RefusedError(error) from None


class _RefusedError(Exception):
    """Carries a user's error out of a task, unchanged: Ray Data adds its own advice to other messages."""
