"""Success of poisoning attacks."""

from typing import Literal

from assay.registry import register
from assay.report.figures.poisoning import by_recipe, by_share
from assay.report.sections.base import Content, Section
from assay.report.tables.poisoning import poisoning
from assay.report.view import View


@register("section")
class PoisoningSection(Section):
    """Success of poisoning attacks."""

    name: Literal["poisoning"] = "poisoning"
    title: str = "Poisoning"
    order: int = 30

    def build(self, view: View) -> Content | None:
        poisoned = poisoning(view.card, view.frame)
        if poisoned is None:
            return None
        figures = {"poisoned": by_recipe(view), "poisoned_by_share": by_share(view)}
        return Content(figures=figures, tables={"poisoned": poisoned})
