"""For which model a certificate holds, and which recipes have none and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from assay.report.cells import tabulate
from assay.report.evidence import Evidence
from assay.report.rows import measured, settings
from assay.report.scorecard import Scorecard


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What is to be known of the certificates of one method."""

    holds_for: tuple[str, ...]
    """The models of which they speak, in words."""
    missing: Mapping[str, tuple[str, ...]]
    """Recipes without any, by the reason."""


def certified(card: Scorecard, frame: pd.DataFrame, method: str) -> Certified:
    """What is to be known of one method, ``interval bounds`` or ``randomised smoothing``."""
    column = Evidence(key="", title="", name="certified_accuracy", where={"method": method}, meaning="")
    found, _ = tabulate([column], card.recipes, frame, card.design)
    missing: dict[str, tuple[str, ...]] = {}
    for (recipe, _), cell in found.cells.items():
        if cell.summary is None:
            missing[cell.why] = (*missing.get(cell.why, ()), recipe)
    rows = measured(frame, "certified_accuracy", method=method)
    return Certified(holds_for=tuple(settings(rows, "holds_for")), missing=missing)
