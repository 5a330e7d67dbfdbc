"""Accuracy on corrupted records."""

from typing import Literal

from assay.registry import register
from assay.report.figures.failsafe import shift
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class ShiftSection(Section):
    """Accuracy on corrupted records."""

    name: Literal["shift"] = "shift"
    title: str = "Shift"
    order: int = 80

    def build(self, view: View) -> Content | None:
        drawn = shift(view)
        return None if drawn is None else Content(figures={"shift": drawn})
