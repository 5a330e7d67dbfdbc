"""Faithfulness of explanations."""

from typing import Literal

from assay.registry import register
from assay.report.figures.explanations import faithfulness
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class ExplanationsSection(Section):
    """Faithfulness of explanations."""

    name: Literal["explanations"] = "explanations"
    title: str = "Explanations"
    order: int = 70

    def build(self, view: View) -> Content | None:
        return Content(figures={"faithfulness": faithfulness(view)})
