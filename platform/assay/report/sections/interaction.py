"""Interaction of adversarial and private training."""

from typing import Literal

from assay.registry import register
from assay.report.sections.base import Content, Section
from assay.report.tables.interaction import interactions
from assay.report.view import View


@register("section")
class InteractionSection(Section):
    """Interaction of adversarial and private training."""

    name: Literal["interaction"] = "interaction"
    title: str = "Interaction"
    order: int = 50

    def build(self, view: View) -> Content | None:
        found = interactions(view.card, view.study, view.frame)
        return Content(tables={"interactions": found}) if found else None
