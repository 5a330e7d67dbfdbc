"""Everything that was measured, a line for each measurement at each of its conditions."""

from typing import Literal

from assay.registry import register
from assay.report.lines import everything
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class EverythingSection(Section):
    """Everything that was measured, a line for each measurement at each of its conditions."""

    name: Literal["everything"] = "everything"
    title: str = "Everything that was measured"
    order: int = 120
    in_contents: bool = False

    def build(self, view: View) -> Content | None:
        return Content(tables={"lines": everything(view.frame, view.card.recipes, view.card.design)})
