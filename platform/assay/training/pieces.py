"""Pieces of a batch: which rows a worker puts through the network together, and how row losses become unit losses.

A unit is a record or, where privacy protects patients, a patient with all of its drawn records. The rows of a piece are
ordered as ``privacy.clipping`` expects them: the first row of every unit, then the second of every unit, and so on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Units that go through the network together, each with the same number of rows."""

    rows: np.ndarray
    """(slots, n) positions within the batch. A patient with fewer records than slots repeats its first one."""
    weights: np.ndarray | None = None
    """(slots, n) weight of each row in its unit's mean loss, 0 where a row is repeated; None where all are equal."""

    def averaged(self, losses: Tensor, copies: int) -> Tensor:
        """Returns the mean loss of each unit.

        Args:
            losses: (copies · slots · n,) losses of all rows, then of all rows again for each further copy.
            copies: number of augmented copies of each row.

        Returns:
            (n,) mean losses.
        """
        slots = len(self.rows)
        if copies > 1:
            losses = losses.unflatten(0, (copies, -1)).mean(0)
        if slots == 1:
            return losses
        of_units = losses.unflatten(0, (slots, -1))
        if self.weights is None:
            return of_units.mean(0)
        return (of_units * torch.from_numpy(self.weights).to(of_units)).sum(0)


def pieces_of_records(total: int, *, rank: int, size: int, at_once: int | None) -> list[Piece]:
    """Returns the pieces of one worker, where the units are records.

    Args:
        total: number of records in the batch.
        rank: number of the worker, from 0.
        size: number of workers.
        at_once: records of a piece, at most; None takes the worker's share at once.

    Returns:
        The pieces; none if the worker has no records.
    """
    rows = np.arange(rank, total, size)
    step = at_once or max(total, 1)
    return [Piece(rows=rows[None, start : start + step]) for start in range(0, len(rows), step)]


def pieces_of_patients(owners: np.ndarray, *, rank: int, size: int, at_once: int | None) -> list[Piece]:
    """Returns the pieces of one worker, each of whole patients with similar numbers of records.

    Patients with 1, with 2, with 3 or 4, with 5 to 8 records and so on go into separate pieces, so that fewer than half
    of all rows are repeated ones.

    Args:
        owners: (total,) the patient of each record of the batch; a patient's records are adjacent.
        rank: number of the worker, from 0.
        size: number of workers.
        at_once: rows of a piece, at most, but never less than one patient; None sets no limit.

    Returns:
        The pieces; none if the worker has no patients.
    """
    starts = np.flatnonzero(np.diff(owners, prepend=-1)) if len(owners) else np.arange(0)
    counts = np.diff(starts, append=len(owners))
    starts, counts = starts[rank::size], counts[rank::size]
    doubling = np.ceil(np.log2(np.maximum(counts, 1))).astype(int)
    pieces = []
    for exponent in np.unique(doubling):
        alike = np.flatnonzero(doubling == exponent)
        slots = int(counts[alike].max())
        step = len(alike) if at_once is None else max(1, at_once // slots)
        for start in range(0, len(alike), step):
            chosen = alike[start : start + step]
            pieces.append(_piece(starts[chosen], counts[chosen]))
    return pieces


def _piece(starts: np.ndarray, counts: np.ndarray) -> Piece:
    """Returns a piece of patients whose records begin at the given places of the batch."""
    slot = np.arange(counts.max())[:, None]
    is_real = slot < counts
    rows = np.where(is_real, starts + slot, starts)
    return Piece(rows=rows, weights=None if is_real.all() else is_real / counts)
