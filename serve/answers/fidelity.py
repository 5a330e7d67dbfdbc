"""How true explanations are known to be: what the study measured of their method, as fields."""

import math
from typing import Any

from assay.evaluations.explained_maps import settings_of
from assay.evaluations.explanation_checks import LARGEST_ERROR, sum_of
from assay.explain.base import Explainer
from assay.metrics import limits_of
from assay.report.checks import checks_of
from assay.report.rows import select
from assay.study.finished import Finished


def fidelity_of(finished: Finished, explainer: Explainer, *, compared_with: str, why_not: str) -> dict[str, Any]:
    """Returns what is known of how true the explanations by a method are.

    Args:
        finished: the trial with its measurements.
        explainer: the method.
        compared_with: the reference of its explanations.
        why_not: why the card does not state the faithfulness of this method with these settings; empty where it does.

    Returns:
        The fields of ``answer_messages.Fidelity``.
    """
    return {
        "method": explainer.name,
        "settings": settings_of(explainer),
        "compared_with": compared_with,
        "error_is": sum_of(explainer)[1] if explainer.adds_up else None,
        "error_limit": LARGEST_ERROR if explainer.adds_up else None,
        "stated": not why_not,
        "why_not": why_not,
        "faithfulness": None if why_not else _faithfulness(finished, explainer.name),
        "seconds": None if why_not else _seconds(finished, explainer.name),
    }


def _faithfulness(finished: Finished, method: str) -> dict[str, Any] | None:
    rows = select(finished.own, "faithfulness", primary=True)
    rows = rows[(rows["status"] == "measured").to_numpy()]
    if not len(rows):
        return None
    row = rows.iloc[0]
    least, most = limits_of(row["name"], row["unit"])
    verdicts = [one for one in checks_of(finished.own) if one.rule == "better_than_controls"]
    verdict = next((one for one in verdicts if one.conditions.get("method") == method), None)
    return {
        "value": float(row["value"]),
        "low": _number(max(row["low"], least)),
        "high": _number(min(row["high"], most)),
        "unit": row["unit"],
        "n": int(row["n"]),
        "verdict": None if verdict is None else verdict.verdict,
        "p": None if verdict is None else _number(verdict.figure),
        "verdict_is": "" if verdict is None else verdict.message,
    }


def _seconds(finished: Finished, method: str) -> float | None:
    rows = select(finished.own, "explanation_seconds", method=method, primary=True)
    rows = rows[(rows["status"] == "measured").to_numpy()]
    return _number(rows.iloc[0]["value"]) if len(rows) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
