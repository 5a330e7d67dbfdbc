"""Input of the sections, figures and tables of a cohort."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from assay.data.base import Dataset
from assay.report.rows import of_cohort
from assay.report.scorecard import Scorecard, scorecard
from assay.report.tables.privacy import Costs, costs
from assay.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class View:
    """One cohort of a study with its results."""

    study: Study
    card: Scorecard
    dataset: Dataset
    frame: pd.DataFrame
    """Rows of the cohort."""
    everything: pd.DataFrame
    """Rows of the whole study."""

    @classmethod
    def of(cls, study: Study, name: str, everything: pd.DataFrame, dataset: Dataset) -> "View":
        """Returns the view of one cohort.

        Args:
            study: of the results.
            name: of the cohort.
            everything: rows of the results, as the store returns them.
            dataset: of the cohort, as it was loaded for the trials.

        Returns:
            The view.
        """
        frame = of_cohort(everything, name)
        card = scorecard(study, name, frame)
        return cls(study=study, card=card, dataset=dataset, frame=frame, everything=everything)

    @property
    def units(self) -> str:
        """Units of a radius."""
        return self.dataset.units

    @cached_property
    def costs(self) -> Costs | None:
        """Cost of each budget in accuracy."""
        return costs(self.card, self.study, self.everything)
