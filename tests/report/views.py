"""The view of a cohort from a scorecard and rows that a test has made."""

from types import SimpleNamespace
from typing import Any

import pandas as pd

from assay.report.scorecard import Scorecard
from assay.report.view import View
from assay.study.spec import Study


def view_of(card: Scorecard, frame: pd.DataFrame, study: Study | None = None, **about: Any) -> View:
    """A view of these rows alone.

    Args:
        about: ``units`` of a radius, the ``baseline`` of a study that says nothing else, or the ``costs`` of budgets.
    """
    told: Any = study or SimpleNamespace(baseline=about.get("baseline", "standard"))
    dataset: Any = SimpleNamespace(units=about.get("units", "units"))
    view = View(study=told, card=card, dataset=dataset, frame=frame, everything=frame)
    if "costs" in about:
        vars(view)["costs"] = about["costs"]
    return view
