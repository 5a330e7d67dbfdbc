"""What the models do over all test records, and a rival that can be read."""

from typing import Literal

import pandas as pd

from assay.evaluations.licences import is_public
from assay.registry import register
from assay.report.figures.global_explanations import attributions, interactions
from assay.report.rows import measured, runs_of, settings
from assay.report.sections.base import Content, Section
from assay.report.tables.global_explanations import (
    counterfactuals,
    differing,
    examples,
    glass_boxes,
    number_text,
    numerical_errors,
    surrogates,
)
from assay.report.view import View


@register("section")
class GlobalExplanationsSection(Section):
    """What the models do over all test records, and a rival that can be read."""

    name: Literal["global_explanations"] = "global_explanations"
    title: str = "Global explanations"
    order: int = 72

    def build(self, view: View) -> Content | None:
        strengths, words = (measured(view.frame, name) for name in ("attribution_strength", "word_attribution"))
        rivals = glass_boxes(view)
        if not len(strengths) and not len(words) and not rivals:
            return None
        return Content(
            figures={"attributions": attributions(view), "interactions": interactions(view)},
            tables={
                "methods": ", ".join(str(one).replace("_", " ") for one in settings(strengths, "method")),
                "baselines": "; ".join(map(str, settings(strengths, "baseline"))),
                "words": words_by_class(view) if is_public(view.dataset) else [],
                "differing": differing(view),
                "numerical": numerical_errors(view),
                "surrogates": surrogates(view),
                "counterfactuals": counterfactuals(view),
                "examples": examples(view),
                "public": is_public(view.dataset),
                "rivals": rivals,
                "number_text": number_text,
            },
        )


def words_by_class(view: View) -> list[tuple[str, str, str]]:
    """Returns recipe, class and its words with the greatest mean attribution, each with its interval.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    rows = measured(view.frame, "word_attribution")
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for place, (recipe, about) in enumerate(zip(rows["recipe"], rows["conditions"], strict=True)):
        found.setdefault((recipe, about["class"]), {}).setdefault(about["word"], []).append(place)
    return [(recipe, name, _told(view, rows, words)) for (recipe, name), words in found.items()]


def _told(view: View, rows: pd.DataFrame, words: dict[str, list[int]]) -> str:
    """Returns the words of most runs, each with its mean and interval."""
    each = {word: view.card.design.summarise(runs_of(rows.iloc[own]).runs) for word, own in words.items()}
    first = sorted(words, key=lambda word: (-len(words[word]), -float(rows["value"].iloc[words[word]].max())))[:10]
    return ", ".join(f"{word} {number_text(each[word], signed=True)}" for word in first)
