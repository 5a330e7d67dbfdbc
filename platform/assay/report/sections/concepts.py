"""Which concepts move the networks' answers, beside random concepts."""

from typing import Literal

from assay.registry import register
from assay.report.figures.concepts import concept_scores
from assay.report.rows import measured
from assay.report.sections.base import Content, Section
from assay.report.tables.concepts import concept_rows, layers, planted_rows, unmeasured_concepts
from assay.report.tables.global_explanations import number_text
from assay.report.view import View


@register("section")
class ConceptsSection(Section):
    """Scores of concepts with what they mean, and which were not measured."""

    name: Literal["concepts"] = "concepts"
    title: str = "Concepts"
    order: int = 74

    def build(self, view: View) -> Content | None:
        rows, missing = concept_rows(view), unmeasured_concepts(view)
        if not rows and not missing:
            return None
        scored = {(one.recipe, one.concept, one.target) for one in rows}
        planted = [one for one in planted_rows(view) if (one.recipe, one.concept, one.target) not in scored]
        random = measured(view.frame, "random_concept_score")
        return Content(
            figures={"scores": concept_scores(view)},
            tables={
                "rows": rows,
                "missing": missing,
                "planted": planted,
                "layers": layers(view),
                "sets": int(random["n"].min()) if len(random) else 0,
                "number_text": number_text,
            },
        )
