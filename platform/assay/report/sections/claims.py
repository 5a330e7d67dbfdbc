"""The claims of the reproduced study and its field."""

from typing import Literal

from assay.registry import register
from assay.report.claims import judge_claim, read_claims
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class ClaimsSection(Section):
    """The claims of the reproduced study and its field."""

    name: Literal["claims"] = "claims"
    title: str = "Claims"
    order: int = 130

    def build(self, view: View) -> Content | None:
        judged = [
            judge_claim(claim, view.frame, reference_epsilon=view.card.reference_epsilon, design=view.card.design)
            for claim in read_claims()
            if claim.dataset in ("", view.dataset.name)
        ]
        return Content(tables={"claims": judged}) if any(one.measured is not None for one in judged) else None
