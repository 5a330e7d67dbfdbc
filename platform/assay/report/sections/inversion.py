"""What the updates of clients tell the server."""

from typing import Literal

from assay.evaluations.inversion_pictures import may_be_shown
from assay.registry import register
from assay.report.figures.inversion import identified, pictures
from assay.report.rows import measured, settings
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class InversionSection(Section):
    """What the updates of clients tell the server."""

    name: Literal["inversion"] = "inversion"
    title: str = "What an update tells"
    order: int = 62

    def build(self, view: View) -> Content | None:
        drawn = identified(view)
        if drawn is None:
            return None
        rows = measured(view.frame, "inversion_identified")
        return Content(
            figures={"identified": drawn, "pictures": pictures(view)},
            tables={
                "candidates": max(settings(rows, "candidates")),
                "fewest": int(rows["n"].min()),
                "public": may_be_shown(view.dataset),
            },
        )
