"""The size of a radius for each feature of a table, in the feature's own unit."""

import math

import pandas as pd

from assay.evaluations.scales import OWN_UNIT
from assay.report.rows import measured

_MOST = 30
"""Greatest number of features that a sentence names."""


def own_units(frame: pd.DataFrame, epsilon: float) -> str:
    """Describes a radius in the units of the features that attacks may change, by the scales of the first trial.

    Args:
        frame: rows of one cohort.
        epsilon: the radius; NaN if robustness was not measured.

    Returns:
        A text; empty if the scales are unknown.
    """
    rows = measured(frame, "feature_scale")
    if not len(rows) or math.isnan(epsilon):
        return ""
    own = rows[rows["trial"] == rows["trial"].iloc[0]]
    texts = [
        f"{conditions['feature']} ± {epsilon * value:.3g}{'' if unit == OWN_UNIT else f' {unit}'}"
        for conditions, value, unit in zip(own["conditions"], own["value"], own["unit"], strict=True)
    ]
    more = f" and so on for {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return f"ε = {epsilon:g} is {', '.join(texts[:_MOST])}{more}"
