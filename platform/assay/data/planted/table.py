"""A table with known coefficients and correlated distractors."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from assay import seeds
from assay.data.base import Dataset
from assay.data.planted.base import DRAWN, Planted
from assay.registry import register

FEATURES = 20
COEFFICIENTS = (2.0, -1.5, 1.0, -1.0, 0.75)
"""Coefficients of the features on which the class depends."""
_COPIES = 2
"""Distractors that are correlated with each of these features."""
_MARGIN = 0.5
"""Least distance of a score from 0, between the classes."""
_EDGE = 4.0
"""Greatest size of a value, in standard deviations; values beyond it are drawn again."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    x: np.ndarray
    """(n, features) float64."""
    columns: np.ndarray
    """(5,) the columns with a coefficient, in the order of ``COEFFICIENTS``."""
    product: np.ndarray
    """(n,) the term of the interaction."""
    score: np.ndarray
    """(n,) its sign is the class."""


@register("dataset")
class PlantedTable(Planted):
    """20 standard normal features; the class is the sign of a sum over five of them, with known coefficients.

    Ten further features are each correlated with one of the five, and five are independent noise; they enter no score.
    With ``interaction``, the product of the first two of the five is added. Scores near 0 are not drawn, so a network
    can learn the classes.
    """

    name: Literal["planted_table"] = "planted_table"
    interaction: float = 0.0
    """Coefficient of the product of the first two features of the five; 0 for a linear score."""
    correlation: float = Field(default=0.7, ge=0, lt=1)
    """Correlation of a distractor with its feature."""

    def load(self) -> Dataset:
        drawn = self._drawn()
        return Dataset(
            name=self.name,
            x=drawn.x.astype(np.float32),
            y=(drawn.score > 0).astype(np.int64),
            class_names=("negative score", "positive score"),
            feature_names=tuple(f"feature {number}" for number in range(FEATURES)),
            low=np.full(FEATURES, -_EDGE, np.float32),
            high=np.full(FEATURES, _EDGE, np.float32),
            units="standard deviations of the feature",
            epsilons=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
            licence="none needed",
            preprocessing="none: drawn with mean 0 and standard deviation 1",
            warnings=(DRAWN,),
            stated=(DRAWN,),
        )

    def truth(self, rows: np.ndarray | None = None) -> np.ndarray:
        mask = np.zeros((self.size if rows is None else len(rows), FEATURES), bool)
        mask[:, self._columns()] = True
        return mask

    def attributions(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Returns the contribution of each feature to the score, compared with a record of zeros, the population mean.

        They are the Shapley values of the score: a coefficient times the value, and each of the two features of the
        interaction half of its term. Those of a network that has learnt the classes are proportional to them.

        Args:
            rows: (m,) positions of records; all by default.

        Returns:
            (m, features) float64; they add up to the score.
        """
        drawn = self._drawn()
        values = np.zeros_like(drawn.x)
        values[:, drawn.columns] = drawn.x[:, drawn.columns] * np.array(COEFFICIENTS)
        values[:, drawn.columns[:2]] += drawn.product[:, None] / 2
        return values if rows is None else values[rows]

    def _columns(self) -> np.ndarray:
        return seeds.stream(self.draw, self.name, "columns").permutation(FEATURES)[: len(COEFFICIENTS)]

    def _drawn(self) -> _Drawn:
        generator, columns = seeds.stream(self.draw, self.name, "records"), self._columns()
        others = seeds.stream(self.draw, self.name, "distractors").permutation(
            np.setdiff1d(np.arange(FEATURES), columns)
        )
        copies = others[: _COPIES * len(columns)].reshape(_COPIES, -1)
        kept: list[np.ndarray] = []
        while sum(map(len, kept)) < self.size:
            x = generator.standard_normal((2 * self.size, FEATURES))
            x[:, copies] = self.correlation * x[:, None, columns] + np.sqrt(1 - self.correlation**2) * x[:, copies]
            inside = (np.abs(x) < _EDGE).all(1) & (np.abs(self._score(x, columns)) > _MARGIN)
            kept.append(x[inside])
        x = np.concatenate(kept)[: self.size]
        return _Drawn(x=x, columns=columns, product=self._product(x, columns), score=self._score(x, columns))

    def _product(self, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self.interaction * x[:, columns[0]] * x[:, columns[1]]

    def _score(self, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return x[:, columns] @ np.array(COEFFICIENTS) + self._product(x, columns)
