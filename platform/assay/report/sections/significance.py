"""Each recipe compared with the baseline."""

from typing import Literal

from assay.registry import register
from assay.report.figures.comparison import accuracy_differences, robust_differences
from assay.report.sections.base import Content, Section
from assay.report.view import View
from assay.report.words import paired_by


@register("section")
class SignificanceSection(Section):
    """Each recipe compared with the baseline."""

    name: Literal["significance"] = "significance"
    title: str = "Significance"
    order: int = 110

    def build(self, view: View) -> Content | None:
        if not view.card.design.trained:
            return None
        known = view.card.comparisons.values()
        return Content(
            figures={
                "accuracy_differences": accuracy_differences(view),
                "robust_differences": robust_differences(view),
            },
            tables={
                "pairs": max((comparison.count for comparison in known), default=0),
                "by_record": any(comparison.by_record for comparison in known),
                "all_by_record": all(comparison.by_record for comparison in known),
                "paired_by": paired_by,
            },
        )
