"""What the sections, figures and tables of a cohort are made of."""

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
        """The view of one cohort.

        Args:
            study: of the results.
            name: of the cohort.
            everything: rows of the results, as the store gives them.
            dataset: of the cohort, as it was loaded for the trials.
        """
        frame = of_cohort(everything, name)
        card = scorecard(study, name, frame)
        return cls(study=study, card=card, dataset=dataset, frame=frame, everything=everything)

    @property
    def units(self) -> str:
        """In which a radius is given."""
        return self.dataset.units

    @cached_property
    def costs(self) -> Costs | None:
        """What each budget costs in accuracy."""
        return costs(self.card, self.study, self.everything)
