"""Abstention: whether a record is left to the clinician, and whether the risk of the rule is promised for it."""

import math
from typing import Any

from serve.answers.held_out import ABSTENTION, HeldOut
from serve.answers.promises import Checked, why_not_of_these_hospitals


def abstention(
    rules: HeldOut, *, certainty: float, doubt: str, unlike: str, site: str, checked: Checked
) -> dict[str, Any]:
    """Returns whether a record is left to the clinician.

    Args:
        rules: that were chosen on held-out records.
        certainty: of the model, in log-odds.
        doubt: reason why no decision should be given on the record; empty where one may be given.
        unlike: why the record counts as unlike the held-out ones; empty where it does not.
        site: hospital of the record; empty where nothing names it.
        checked: what the study found of the risk.

    Returns:
        The fields of ``answer_messages.Abstention``.
    """
    left, why = _left(rules, certainty, doubt or unlike)
    why_not = _why_not(rules, unlike=doubt or unlike, site=site, refuted=checked.refuted)
    return {
        "left": left,
        "why": why,
        "valid": not why_not,
        "why_not_valid": why_not,
        "risk_checked": checked.measured,
    }


def _left(rules: HeldOut, certainty: float, doubt: str) -> tuple[bool | None, str]:
    if doubt:
        return True, doubt
    if rules.least_certainty is None:
        return None, f"no rule of abstention: {rules.source}"
    if math.isinf(rules.least_certainty):
        return True, f"{rules.source} show at no certainty that its errors stay at or below {ABSTENTION.risk:.0%}"
    if certainty < rules.least_certainty:
        return True, f"the model is too uncertain to keep its errors at or below {ABSTENTION.risk:.0%}"
    return False, ""


def _why_not(rules: HeldOut, *, unlike: str, site: str, refuted: bool) -> str:
    """Returns why the risk is not promised for a record; empty where it is."""
    if rules.least_certainty is None:
        return f"no rule of abstention: {rules.source}"
    if unlike:
        return unlike
    if refuted:
        return "on the test records the answers of this rule were wrong more often than promised: its risk is refuted"
    why = why_not_of_these_hospitals(rules, site)
    return f"its rule of abstention was not checked for this hospital: {why}" if why else ""
