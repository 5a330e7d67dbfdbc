"""Worst-case accuracy of each class."""

import pandas as pd

from assay.report.cells import ScoreTable, tabulate
from assay.report.evidence import Evidence
from assay.report.rows import measured, settings
from assay.report.scorecard import Scorecard


def classes(card: Scorecard, frame: pd.DataFrame) -> ScoreTable | None:
    """Builds a table of recipes × classes at the scorecard's radius, with balanced accuracy first.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The table; None where nothing was attacked.
    """
    threat = {"epsilon": card.reference_epsilon, "norm": card.reference_norm}
    names = settings(measured(frame, "worst_case_recall", **threat), "class")
    if not names:
        return None
    balanced = Evidence(
        key="balanced",
        title="balanced accuracy",
        name="worst_case_balanced_accuracy",
        where=threat,
        meaning="mean of the classes",
        sampled=True,
        from_zero=True,
    )
    each = [
        Evidence(
            key=f"class {name}",
            title=str(name),
            name="worst_case_recall",
            where={"class": name, **threat},
            meaning="share of the records of this class that are answered rightly",
            sampled=True,
            from_zero=True,
        )
        for name in names
    ]
    return tabulate([balanced, *each], card.recipes, frame, card.design)[0]
