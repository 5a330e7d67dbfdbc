"""Prediction sets: classes among which the true one lies, and whether their coverage is promised for a record."""

from typing import Any

import numpy as np

from serve.answers.held_out import ALPHA, HeldOut
from serve.answers.promises import Checked, why_not_of_these_hospitals


def prediction_set(
    rules: HeldOut, names: tuple[str, ...], scores: np.ndarray, *, decided: int, why_not: str, checked: Checked
) -> dict[str, Any]:
    """Returns the prediction set of a record.

    It always has the predicted class, at an operating point too, and the likeliest one: a set without them would help
    no reader, and with them it holds the true class no less often.

    Args:
        rules: that were chosen on held-out records.
        names: of the classes.
        scores: (classes,) LAC scores.
        decided: the predicted class.
        why_not: why the coverage is not promised; empty where it is.
        checked: what the study found of the coverage.

    Returns:
        The fields of ``answer_messages.PredictionSet``.
    """
    about: dict[str, Any] = {"coverage_checked": checked.measured}
    if rules.set_threshold is None:
        return about | {"valid": False, "why_not": f"no records calibrate it: {rules.source}"}
    likely = scores <= max(rules.set_threshold, scores.min())
    likely[decided] = True
    about |= {
        "classes": [names[k] for k in np.flatnonzero(likely).tolist()],
        "coverage": None if why_not else 1 - ALPHA,
        "nominal_coverage": 1 - ALPHA,
        "valid": not why_not,
    }
    return about | ({"why_not": why_not} if why_not else {})


def why_not_promised(rules: HeldOut, *, site: str, unlike: str, refuted: bool) -> str:
    """Returns why the coverage of a set is not promised for a record; empty where it is.

    Args:
        rules: that were chosen on held-out records.
        site: hospital of the record by ``intended_use.site_of``; empty where nothing names it.
        unlike: why the record counts as unlike the held-out ones; empty where it does not.
        refuted: whether the test records speak against the coverage.
    """
    if refuted and not unlike:
        return "on the test records the sets held the true class less often than promised: their coverage is refuted"
    why = unlike or why_not_of_these_hospitals(rules, site)
    return f"{why}: the coverage is not promised" if why else ""
