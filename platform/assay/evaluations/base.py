"""The base class of evaluations, and what one trains by itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.data.base import Dataset
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.recipes import Recipe
from assay.registry import Method
from assay.results import Finding


@dataclass(frozen=True, kw_only=True)
class OwnTraining:
    """A training that an evaluation does itself on the training records, beside that of the recipe."""

    label: str
    """What is trained, for the ledger."""
    epsilon: float | None = None
    """ε that it spends, for single records; None where it is not private."""
    delta: float = 0.0
    """δ of this ε."""
    accountant: Literal["gdp"] | None = None
    """How ε was computed, stated wherever there is one: by Gaussian differential privacy (``gdp``). A training that is
    accounted otherwise may be easier to attack than a Gaussian mechanism of its (ε, δ), which is what is charged."""

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.accountant != "gdp":
            raise ValueError(
                f"{self.label}: its ε is accounted by {self.accountant!r}; only 'gdp' can be charged as one Gaussian "
                "mechanism: give accountant='gdp' where that is how ε was computed"
            )


class Evaluation(Method):
    """Base class of evaluations: register with ``@register("evaluation")``, declare ``metrics``, write ``measure``."""

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """Every figure that ``measure`` may return, with its meaning and its columns on the scorecard."""

    needs_shared_model: ClassVar[bool] = True
    """Whether it measures ``Subject.model``. If so, it does not apply where that is no model, because each client has
    layers of its own."""

    looks_at: ClassVar[Literal["decisions", "probabilities", "both"]] = "both"
    """The part of an answer that it uses, where two classes are decided at an operating point.

    ``decisions``: ``measure`` is given ``Subject.decided``, and every row has the threshold among its conditions.
    ``probabilities``: the threshold changes nothing, and is not part of the key of its results. ``both``: it uses
    ``Subject.decisions``, ``wrong`` and ``right`` itself, and adds ``Subject.decided_at`` to the rows concerned.
    """

    def measure(self, subject: Subject) -> Sequence[Finding]:
        """Measures the model. What cannot be measured is ``not_applicable`` with its reason, never left out.

        Args:
            subject: the trained model with its data.

        Returns:
            Measurements and checks.

        Raises:
            NotImplementedError: the class does not define it.
        """
        raise NotImplementedError

    read_later: ClassVar[frozenset[str]] = frozenset()
    """Settings that only ``read`` uses. They are not part of the key of the results: another value measures nothing."""

    def read(self, found: Sequence[Finding]) -> Sequence[Finding]:
        """Selects the findings that a trial shows, by the settings in ``read_later``; by default all of them.

        Args:
            found: as ``measure`` returned them, perhaps in an earlier run.

        Returns:
            The findings of the trial.
        """
        return found

    def sample(self, subject: Subject) -> np.ndarray:
        """Returns the test records that it uses: a sample of the size ``records``, where it has that setting, or all.

        An evaluation that uses others overrides it, because the accuracy next to its figures is measured on this
        sample.

        Args:
            subject: the trained model with its data.

        Returns:
            (n,) positions of the records.
        """
        return subject.chosen(subject.split.test, getattr(self, "records", None))

    @property
    def of_training_records(self) -> bool:
        """Whether its results depend on the training records beyond the model's own weights.

        They do where it reads these records, or networks that it trains on them again. No ε pays for that, so such a
        figure stays with the curator of a private model. An evaluation that only reads other records returns False; a
        test verifies it.
        """
        return True

    def among(self, recipes: Iterable[Recipe]) -> "Evaluation":
        """Returns the evaluation as it is asked where these recipes are compared; by default itself.

        Args:
            recipes: of the cohort.

        Returns:
            The evaluation, perhaps with settings that make its figures comparable.

        Raises:
            SpecError: its settings allow no comparison of these recipes.
        """
        return self

    def own_training(self, recipe: Recipe, dataset: Dataset | None) -> OwnTraining | None:
        """Returns what the evaluation itself trains on the training records of a recipe and enters in the ledger.

        A class that does not define it has no entry of its own, whatever it trains: ``lira``, ``audit`` and the
        surrogate tree of ``global_explanations`` have none.

        Args:
            recipe: whose model is measured.
            dataset: its data, perhaps not yet prepared; None where they are absent: then as if they were suitable.

        Returns:
            The training; None where it has no entry.
        """
        return None

    def forecast(self, records: int) -> str:
        """Describes the cost of the evaluation for one trial, where it is high.

        Args:
            records: of the test split.

        Returns:
            A text; empty where the cost is low.
        """
        return ""

    def fingerprint(self) -> str:
        """Returns a hash of data other than the cohort's own that the results depend on; part of their key."""
        return ""
