"""The attributions behind global explanations, and how exactly they were computed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from assay import intervals
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import Attribution
from assay.explain.references import Reference
from assay.results import Finding, not_applicable


@dataclass(frozen=True, kw_only=True)
class ExplainedAll:
    """Test records with the attributions to their predicted class."""

    subject: Subject
    rows: np.ndarray
    x: Tensor
    target: Tensor
    reference: Reference
    attribution: Attribution
    about: dict[str, Any]


def numerical_errors(explained: ExplainedAll) -> list[Finding]:
    """Returns how exactly the attributions of a record were computed, whatever they say of the model.

    Args:
        explained: the records.

    Returns:
        The error of a record's sum and of its values, means over records.
    """
    attribution, subject = explained.attribution, explained.subject
    clusters = subject.clusters(explained.rows)
    found: list[Finding] = []
    for name, each, unit in (
        ("attribution_sum_error", attribution.error, "share of the change"),
        ("attribution_value_error", attribution.value_error, "share of the greatest value"),
    ):
        values = each.double().cpu().numpy()
        if np.isfinite(values).any():
            interval = intervals.mean(values, clusters).interval
            found.append(estimated(name, interval, unit=unit, n=len(values), conditions=explained.about))
        else:
            why = f"{explained.about['method']} has one rule alone: it is exact but for rounding"
            found.append(not_applicable(name, why, reason="no_method", **explained.about))
    return found
