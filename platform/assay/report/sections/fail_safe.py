"""Abstention, conformal sets, and detection of other records."""

from typing import Literal

from assay.registry import register
from assay.report.figures.failsafe import conformal, out_of_distribution, risk_coverage
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class FailSafeSection(Section):
    """Abstention, conformal sets, and detection of other records."""

    name: Literal["fail_safe"] = "fail_safe"
    title: str = "Fail-safe"
    order: int = 90

    def build(self, view: View) -> Content | None:
        figures = {
            "risk_coverage": risk_coverage(view),
            "conformal_sets": conformal(view),
            "out_of_distribution": out_of_distribution(view),
        }
        return Content(figures=figures) if any(drawn is not None for drawn in figures.values()) else None
