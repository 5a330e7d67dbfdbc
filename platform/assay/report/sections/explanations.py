"""Explanations of single records: are they faithful, and what do they look like?"""

from typing import Literal

from assay.evaluations.explanation_examples import may_stand_in_a_report
from assay.registry import register
from assay.report.explained import map_methods, recipe_to_show, unmeasured
from assay.report.figures.explanation_examples import by_method, by_recipes, in_log_odds, in_other_units
from assay.report.figures.explanation_groups import group_interactions, group_values
from assay.report.figures.explanations import areas, faithfulness, replacements
from assay.report.rows import measured, of_recipe, settings
from assay.report.sections.base import Content, Section
from assay.report.tables.explained_texts import text_galleries
from assay.report.tables.explanation_groups import example_groups, holdings
from assay.report.tables.explanations import measure_table
from assay.report.view import View


@register("section")
class ExplanationsSection(Section):
    """Faithfulness of explanations of single records, and examples."""

    name: Literal["explanations"] = "explanations"
    title: str = "Explanations of single records"
    order: int = 70

    def build(self, view: View) -> Content | None:
        drawn = faithfulness(view)
        missing = unmeasured(view)
        if drawn is None and not missing:
            return None
        recipe = recipe_to_show(view)
        rows = measured(view.frame, "faithfulness")
        shown = by_method(view, log_odds=True)
        agreement = of_recipe(measured(view.frame, "panel_agreement"), recipe or "")
        return Content(
            figures={
                "faithfulness": drawn,
                "areas": areas(view),
                "replacements": replacements(view),
                "in_log_odds": in_log_odds(view),
                "in_other_units": in_other_units(view),
                "by_recipes": by_recipes(view),
                "group_values": group_values(view),
                "group_interactions": group_interactions(view),
            },
            tables={
                "recipe": recipe,
                "fewest": int(rows["n"].min()) if len(rows) else 0,
                "most": int(rows["n"].max()) if len(rows) else 0,
                "references": _references(view),
                "defaults": _defaults(view),
                "agreement": None if not len(agreement) else float(agreement["value"].min()),
                "measures": measure_table(view),
                "missing": missing,
                "groups": holdings(view),
                "group_examples": example_groups(view),
                "texts": text_galleries(view),
                "in_own_units": shown is not None and bool(shown.shown[0].kept["records"].get("in_own_units")),
                "public": may_stand_in_a_report(view.dataset),
                "kept": bool(len(measured(view.frame, "explanation_examples"))),
            },
        )


def _defaults(view: View) -> dict[str, list[str]]:
    """Returns the methods of the scorecard with the reason of each, and the recipes that are explained by it."""
    titles = {one.name: one.title for one in map_methods(view.frame)}
    found: dict[str, list[str]] = {}
    for recipe in view.card.recipes:
        rows = of_recipe(measured(view.frame, "faithfulness", primary=True), recipe)
        told = [(c["method"], c["chosen"]) for c in rows["conditions"] if "chosen" in c]
        for name, why in dict.fromkeys(told):
            found.setdefault(f"{titles.get(name, name)}, since {why}", []).append(recipe)
    return found


def _references(view: View) -> dict[str, list[str]]:
    """Returns what maps count from, in words, each with the recipes that count from it."""
    found: dict[str, list[str]] = {}
    for recipe in view.card.recipes:
        for said in settings(of_recipe(measured(view.frame, "faithfulness"), recipe), "reference"):
            found.setdefault(str(said), []).append(recipe)
    return found
