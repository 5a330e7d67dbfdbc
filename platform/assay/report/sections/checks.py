"""The checks that warned or failed, all verdicts, and the data."""

from dataclasses import dataclass
from typing import Any, Literal

from assay.registry import register
from assay.report.scorecard import Scorecard
from assay.report.sections.base import Content, Section
from assay.report.view import View
from assay.results import RAISED


@register("section")
class ChecksSection(Section):
    """The checks that warned or failed, all verdicts, and the data."""

    name: Literal["checks"] = "checks"
    title: str = "Checks"
    order: int = 140

    def build(self, view: View) -> Content | None:
        checks = view.card.checks
        passed, undecided = (int((checks["verdict"] == verdict).sum()) for verdict in ("pass", "inconclusive"))
        return Content(tables={"raised": _raised(view.card), "passed": passed, "inconclusive": undecided})


@dataclass(frozen=True, kw_only=True)
class RaisedRule:
    """One rule that warned or failed, over all recipes."""

    rule: str
    verdict: str
    recipes: tuple[str, ...]
    """Each with the number of runs that raised it, in words."""
    message: str
    """For the first recipe."""


def _raised(card: Scorecard) -> list[RaisedRule]:
    """Returns the checks that warned or failed, failed ones first."""
    groups: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    raised = card.checks[card.checks["verdict"].isin(RAISED)]
    for check in raised.sort_values("verdict", kind="stable").to_dict("records"):
        groups.setdefault((check["rule"], check["verdict"]), []).append(check)
    return [
        RaisedRule(
            rule=rule,
            verdict=verdict,
            recipes=tuple(f"{check['recipe']} ({check['raised']} of {check['count']})" for check in own),
            message=own[0]["message"],
        )
        for (rule, verdict), own in groups.items()
    ]
