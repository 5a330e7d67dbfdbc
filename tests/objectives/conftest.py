"""Batches as the training loop hands them to an objective."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from assay import seeds
from assay.objectives.base import Batch
from assay.seeds import Draw
from assay.threats import Bounds


@pytest.fixture
def batch_of(blob_bounds: Bounds) -> Callable[..., Batch]:
    """``batch_of(x, y)``: all of a batch, or with ``total`` and ``rows`` one worker's share of it."""

    def make(x: Tensor, y: Tensor, *, total: int | None = None, rows: np.ndarray | None = None, **about: Any) -> Batch:
        draw = Draw(seeds.stream(1, "craft"), total or len(x), rows)
        return Batch(**{"x": x, "y": y, "bounds": blob_bounds, "draw": draw, **about})

    return make
