"""Sanitation by spectral signatures: a second kind of record within a class."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from assay.data.sanitation.ranking import without_greatest
from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.registry import register

_MARGIN = 1.5
"""Number of records that are removed for each record that is expected to be poisoned, as in the paper."""


@register("treatment")
class SpectralSignatures(Treatment):
    """Removes the records that are farthest along their class's top direction of features (arXiv:1811.00636).

    The defence of Tran et al. 2018. Records with a trigger leave a trace in the features of a network that was trained
    on them: the direction in which their class varies most separates them from the rest. Of each class 1.5 times the
    expected fraction is removed, poisoned or not.
    """

    defends: ClassVar[bool] = True
    name: Literal["spectral_signatures"] = "spectral_signatures"
    share: float = Field(default=0.1, gt=0, lt=1 / _MARGIN)
    """Greatest fraction of a class that is expected to be poisoned."""

    @property
    def per_record(self) -> bool:
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        learnt = bench.fit(records)
        with torch.no_grad():
            features = learnt.features(torch.from_numpy(records.x)).numpy()
        scores = np.empty(len(records.y))
        for label in np.unique(records.y):
            members = records.y == label
            scores[members] = outlier_scores(features[members])
        return records.only(without_greatest(scores, records.y, _MARGIN * self.share))


def outlier_scores(features: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each row from the mean, along the top right singular vector.

    Args:
        features: (n, d).

    Returns:
        (n,) float64.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[0]) ** 2
