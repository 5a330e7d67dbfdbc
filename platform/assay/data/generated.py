"""A table of synthetic records."""

from typing import Literal

import numpy as np
from pydantic import Field

from assay.data.base import Dataset, Source
from assay.registry import register

_NOISE = 0.02
"""Fraction of the labels that are random."""
_DRAWN = "drawn by a program: figures on it say nothing of patients"


@register("dataset")
class Generated(Source):
    """Synthetic records: two classes of two clusters each; most features are combinations of a few.

    The records belong to no patient, so looking at them costs no privacy: settings of private training are chosen on
    them. By default they have the size and the form of the biopsies of ``wdbc``. Figures on them say nothing about
    patients.
    """

    name: Literal["generated"] = "generated"
    size: int = Field(default=569, ge=20)
    features: int = Field(default=30, ge=4)
    draw: int = Field(default=0, ge=0)
    """Number of the random draw; each number gives other clusters."""

    def load(self) -> Dataset:
        from sklearn.datasets import make_classification

        telling = self.features // 3
        raw, y = make_classification(
            n_samples=self.size,
            n_features=self.features,
            n_informative=telling,
            n_redundant=self.features // 2,
            class_sep=1.5,
            flip_y=_NOISE,
            weights=[0.6],
            random_state=self.draw,
        )
        x = ((raw - raw.mean(0)) / raw.std(0)).astype(np.float32)
        edge = np.abs(x).max(0)
        return Dataset(
            name=self.name,
            x=x,
            y=y.astype(np.int64),
            class_names=("first", "second"),
            feature_names=tuple(f"feature {number}" for number in range(self.features)),
            low=-edge,
            high=edge,
            units="standard deviations of the feature",
            epsilons=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
            licence="none needed",
            citation="",
            preprocessing="each feature minus its mean, divided by its standard deviation; the records are nobody's",
            warnings=(_DRAWN,),
            stated=(_DRAWN,),
        )
