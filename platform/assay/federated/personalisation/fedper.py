"""FedPer (Arivazhagan et al. 2019, arXiv:1912.00818)."""

from typing import ClassVar, Literal

from assay.federated.personalisation.head import LocalHead
from assay.registry import register


@register("personalisation")
class FedPer(LocalHead):
    """Each client keeps a head of its own; body and head are trained together, and the body alone is averaged."""

    name: Literal["fedper"] = "fedper"
    paper: ClassVar[str] = "Arivazhagan et al. 2019, arXiv:1912.00818"
