"""Base of sources whose records carry a known truth: which features the class depends on."""

import numpy as np
from pydantic import Field

from assay.data.base import Source

DRAWN = "drawn by a program: figures on it say nothing of patients"
"""Warning of every such data set."""


class Planted(Source):
    """A source of synthetic records that knows which features of a record its class depends on.

    The truth is no part of the data set, so no network and no evaluation sees it; measures of explanations against the
    truth (``assay.explain.measures.truth``) are given it beside the maps. Preparation of texts keeps rows and places of
    words, so the truth holds for prepared records too.
    """

    size: int = Field(default=1000, ge=20)
    """Number of records."""
    draw: int = Field(default=0, ge=0)
    """Number of the random draw; each number gives other records."""

    def truth(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Returns which features the class of each record depends on.

        Args:
            rows: (m,) positions of records; all by default.

        Returns:
            (m, ...) bool, one value a feature: a column, a pixel of one channel, a sample of a lead, a word. All False
            where a record has nothing planted.
        """
        raise NotImplementedError
