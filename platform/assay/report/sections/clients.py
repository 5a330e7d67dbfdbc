"""What each hospital, or client, of a federated recipe has by joining, and how much they differ."""

from typing import Literal

from assay.registry import register
from assay.report.figures.federation import clients
from assay.report.figures.partition import partition
from assay.report.sections.base import Content, Section
from assay.report.tables.clients import partitions
from assay.report.tables.hospitals import ARRANGEMENTS, hospitals
from assay.report.view import View


@register("section")
class ClientsSection(Section):
    """What each hospital, or client, of a federated recipe has by joining, and how much they differ."""

    name: Literal["clients"] = "clients"
    title: str = "Clients"
    order: int = 60

    def build(self, view: View) -> Content | None:
        drawn, dealt = clients(view), partition(view)
        if drawn is None and dealt is None:
            return None
        return Content(
            figures={"clients": drawn, "partition": dealt},
            tables={
                "partitions": partitions(view.card, view.frame),
                "hospitals": hospitals(view.card, view.frame),
                "titles": ARRANGEMENTS,
            },
        )
