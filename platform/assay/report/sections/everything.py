"""All measurements, a line for each measurement and set of conditions."""

from typing import Literal

from assay.registry import register
from assay.report.lines import everything
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class EverythingSection(Section):
    """All measurements, a line for each measurement and set of conditions."""

    name: Literal["everything"] = "everything"
    title: str = "Everything that was measured"
    order: int = 120
    in_contents: bool = False

    def build(self, view: View) -> Content | None:
        return Content(tables={"lines": everything(view.frame, view.card.recipes, view.card.design)})
