"""Cost of privacy, and membership attacks."""

from typing import Literal

from assay.registry import register
from assay.report.figures.membership import roc
from assay.report.figures.privacy import privacy
from assay.report.sections.base import Content, Section
from assay.report.tables.membership import exposed
from assay.report.tables.privacy import uncorrected, units_text
from assay.report.view import View


@register("section")
class PrivacySection(Section):
    """Cost of privacy, and membership attacks."""

    name: Literal["privacy"] = "privacy"
    title: str = "Privacy"
    order: int = 40

    def build(self, view: View) -> Content | None:
        card, frame = view.card, view.frame
        return Content(
            figures={"privacy": privacy(view), "membership": roc(view)},
            tables={
                "protects": units_text(frame, card.recipes),
                "uncorrected": uncorrected(card, view.everything),
                "costs": view.costs,
                "exposed": exposed(card, frame),
            },
        )
