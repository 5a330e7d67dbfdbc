"""The scorecard, and the warnings of its values."""

from typing import Literal

from assay.registry import register
from assay.report.marks import marks, merged
from assay.report.sections.base import Content, Section
from assay.report.view import View
from assay.report.words import describe_recipe


@register("section")
class ScorecardSection(Section):
    """The scorecard, and the warnings of its values."""

    name: Literal["scorecard"] = "scorecard"
    title: str = "Scorecard"
    order: int = 10

    def build(self, view: View) -> Content | None:
        card = view.card
        recipes = {recipe: describe_recipe(view.study, card.cohort, recipe) for recipe in card.recipes}
        return Content(tables={"marks": merged(marks(card)), "recipes": recipes})

    def anchor(self, cohort: str) -> str:
        return cohort
