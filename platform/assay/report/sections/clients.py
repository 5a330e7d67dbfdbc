"""Accuracy of each client of a federated recipe."""

from typing import Literal

from assay.registry import register
from assay.report.figures.federation import clients
from assay.report.sections.base import Content, Section
from assay.report.view import View


@register("section")
class ClientsSection(Section):
    """Accuracy of each client of a federated recipe."""

    name: Literal["clients"] = "clients"
    title: str = "Clients"
    order: int = 60

    def build(self, view: View) -> Content | None:
        drawn = clients(view)
        return None if drawn is None else Content(figures={"clients": drawn})
