"""Federated averaging (McMahan et al. 2017, arXiv:1602.05629)."""

from typing import ClassVar, Literal

from assay.federated.strategies.base import Contribution, Strategy
from assay.registry import register


class Averaging(Strategy):
    """Base class of the strategies whose change is an average of the updates."""

    weighting: Literal["records", "clients"] = "records"
    """Weights of the average. ``records``: each client counts by its records, as the server knows them. ``clients``:
    all clients count the same."""

    def scale(self, contribution: Contribution) -> float:
        return float(contribution.records) if self.weighting == "records" else 1.0


@register("strategy")
class FedAvg(Averaging):
    """New weights are the old ones plus the average of the clients' updates."""

    name: Literal["fedavg"] = "fedavg"
    paper: ClassVar[str] = "McMahan et al. 2017, arXiv:1602.05629"
