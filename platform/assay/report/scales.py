"""What a radius is of each feature of a table, in the feature's own unit."""

import math

import pandas as pd

from assay.evaluations.scales import OWN_UNIT
from assay.report.rows import measured

_MOST = 30
"""Features that a sentence names."""


def own_units(frame: pd.DataFrame, epsilon: float) -> str:
    """The radius in the units of features that attacks may move, by the scales of the first trial; empty if unknown.

    Args:
        frame: rows of one cohort.
        epsilon: the radius; NaN if robustness was not measured.
    """
    rows = measured(frame, "feature_scale")
    if not len(rows) or math.isnan(epsilon):
        return ""
    own = rows[rows["trial"] == rows["trial"].iloc[0]]
    told = [
        f"{conditions['feature']} ± {epsilon * value:.3g}{'' if unit == OWN_UNIT else f' {unit}'}"
        for conditions, value, unit in zip(own["conditions"], own["value"], own["unit"], strict=True)
    ]
    more = f" and so on for {len(told) - _MOST} more" if len(told) > _MOST else ""
    return f"ε = {epsilon:g} is {', '.join(told[:_MOST])}{more}"
