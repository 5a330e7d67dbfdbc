"""Wall time of training."""

from typing import Literal

from assay.registry import register
from assay.report.figures.comparison import cost
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class CostSection(Section):
    """Wall time of training."""

    name: Literal["cost"] = "cost"
    title: str = "Cost"
    order: int = 100

    def build(self, view: View) -> Content | None:
        return Content(figures={"cost": cost(view)}) if view.card.design.trained else None
