"""Rounds of federated recipes: learning curves, who answered, bytes, and time on named networks."""

from typing import Literal

from assay.registry import register
from assay.report.figures.learning import learning
from assay.report.figures.networks import network_time
from assay.report.sections.base import Content, Section
from assay.report.tables.rounds import rounds
from assay.report.view import View


@register("section")
class RoundsSection(Section):
    """Rounds of federated recipes: learning curves, who answered, bytes, and time on named networks."""

    name: Literal["rounds"] = "rounds"
    title: str = "Federated rounds"
    order: int = 61

    def build(self, view: View) -> Content | None:
        found = rounds(view.card, view.frame)
        if not found:
            return None
        return Content(
            figures={"learning": learning(view), "networks": network_time(view)},
            tables={"rounds": found, "networks": list(dict.fromkeys(title for row in found for title in row.times))},
        )
