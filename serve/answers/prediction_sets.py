"""Prediction sets: classes among which the true one lies, and whether their coverage is promised for a record.

A conformal set covers at its nominal rate on records that are exchangeable with those of its calibration
(``assay.evaluations.conformal``). Of a record that is unlike them, or of another hospital, nothing is promised; nor
where nothing says of which hospital it is.
"""

from typing import Any

import numpy as np

from serve.answers.held_out import ALPHA, HeldOut

COVERAGE_RULE = "conformal_coverage"
"""The check of the measured coverage."""


def prediction_set(
    rules: HeldOut, names: tuple[str, ...], scores: np.ndarray, *, decided: int, why_not: str
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

    Returns:
        The fields of ``answer_messages.PredictionSet``.
    """
    if rules.set_threshold is None:
        return {"valid": False, "why_not": f"no records calibrate it: {rules.source}"}
    likely = scores <= max(rules.set_threshold, scores.min())
    likely[decided] = True
    classes = [names[k] for k in np.flatnonzero(likely).tolist()]
    about: dict[str, Any] = {"classes": classes, "coverage": 1 - ALPHA, "valid": not why_not}
    return about | ({"why_not": why_not} if why_not else {})


def why_not_promised(rules: HeldOut, *, site: str, foreign: bool, refuted: bool) -> str:
    """Returns why the coverage of a set is not promised for a record; empty where it is.

    Args:
        rules: that were chosen on held-out records.
        site: hospital of the record by ``intended_use.site_of``; empty where nothing names it.
        foreign: whether the record is unlike those that calibrated the set.
        refuted: whether the check of the coverage on the test records warned.
    """
    if foreign:
        return "the record is unlike those that calibrated the set: its coverage is not promised"
    if refuted:
        return "on the test records the sets held the true class less often than promised: their coverage is refuted"
    if not rules.sites:
        return (
            "the data set does not name the hospitals of its records, so it is not known whether this record is of one "
            "of them: the coverage is promised only there"
        )
    if not site:
        return (
            "nothing says that the record is of a hospital whose records calibrated the set: the coverage is promised "
            "only there; give the hospital as site of about"
        )
    if site not in rules.sites:
        return "the record is of another hospital than those that calibrated the set: its coverage is not promised"
    return ""
