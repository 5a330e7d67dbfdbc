"""The ε cost of choosing one trial of a study by the results of all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.data.base import Dataset
from assay.errors import LedgerError
from assay.ledger.account import ReleaseRequest
from assay.ledger.protocol import LedgerProtocol
from assay.ledger.trainings import TrainingRow
from assay.privacy.composition import rdp_epsilon_of, spends
from assay.release.candidates import Candidate
from assay.release.ledgers import location_of
from assay.store.folder import Store
from assay.study.objections import SEEDED, WITHOUT_PRIVACY


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Cost of choosing the best trial of a study by the results of all."""

    trained: int
    """Number of trainings that may influence the choice: all on the same data, failed and deleted ones included."""
    private: int
    """Number of private ones among them."""
    epsilon: float
    """ε of all private ones together, by RDP; infinite if it is not bounded."""
    alone: float
    """Greatest ε of a single one."""
    delta: float
    unknown: int = 0
    """Number of private trials that are not in the ledger."""

    @property
    def text(self) -> str:
        """The cost as a sentence; empty where no training is private, or there is only one."""
        if not self.private or self.trained == 1:
            return ""
        if self.unknown:
            return (
                f"No ledger knows {self.unknown} of {self.trained} trials, so nobody can say what choosing the best of "
                "them costs."
            )
        if self.private < self.trained:
            return (
                f"{self.trained - self.private} of {self.trained} trials were not private, so nothing bounds what "
                "choosing the best of them reveals (ε = ∞)."
            )
        if not np.isfinite(self.epsilon):
            return "The ε of a trial could not be claimed, so nothing bounds what choosing the best reveals (ε = ∞)."
        return (
            f"Choosing the best of {self.trained} private trials costs ε = {self.epsilon:.2f} at δ = {self.delta:g}, "
            f"not {self.alone:.2f}: whoever picks one by looking at all has used them all, and any that failed, were "
            "replaced or deleted count too (RDP). That covers the training records: not the choice by held-out "
            "records, where those belong to the same data."
        )


def choice_of_best(store: Store, dataset: Dataset, trainings: Sequence[TrainingRow]) -> Choice:
    """Returns the cost of choosing the best trial: all trainings compose, since each could have been chosen.

    Args:
        store: of the study.
        dataset: on which the choice is made.
        trainings: of that study, from the ledger of the data; empty where there is no ledger.

    Returns:
        The cost.
    """
    private = [training for training in trainings if training.noise]
    in_ledger = {training.training for training in trainings}
    stored = store.trained_on(dataset.origin.digest, dataset.name)
    unknown = {trial for trial, is_private in stored.items() if is_private} - in_ledger
    charges = [training.charge for training in private]
    delta = max((m.delta for charge in charges for mechanisms in charge.values() for m in mechanisms), default=0.0)
    bounded = bool(private) and not unknown and all(spends(row.charge) and not row.objection for row in private)
    return Choice(
        trained=len(trainings) + len(unknown),
        private=len(private) + len(unknown),
        unknown=len(unknown),
        epsilon=rdp_epsilon_of(charges, delta=delta) if bounded else float("inf"),
        alone=max(rdp_epsilon_of([charge], delta=delta) for charge in charges) if bounded else float("inf"),
        delta=delta,
    )


def looked_at(ledger: LedgerProtocol, store: Store, chosen: Candidate) -> list[Candidate]:
    """Returns all other trainings that may have influenced a choice, to be charged with it.

    Args:
        ledger: of the data.
        store: of the study.
        chosen: the trial that was chosen.

    Returns:
        The other trainings, whatever their outcome.

    Raises:
        LedgerError: the chosen training, or another one on the same data, is not in the ledger.
    """
    location = location_of(store.location)
    trainings = ledger.trainings(location)
    stored = set(store.trained_on(ledger.about("digest"), ledger.name))
    if stored - {row.training for row in trainings} or all(
        row.artefact != chosen.request.artefact for row in trainings
    ):
        raise LedgerError(
            f"the ledger of {ledger.name} does not know all trainings in {location} that {chosen.request.label} may "
            "have been chosen by, and so not what they spent: name the ledger with which the study ran, and its "
            "results where they were. What was trained without it, or by an earlier version, nobody can charge: "
            "choose without looking, or begin again in a new folder"
        )
    return [
        Candidate(
            trial=row.training,
            cohort=chosen.cohort,
            data=chosen.data,
            recipe={},
            request=ReleaseRequest(training=row.training, label=row.label, charge=row.charge, artefact=row.artefact),
            objections=_objections(row),
        )
        for row in trainings
        if row.artefact != chosen.request.artefact
    ]


def _objections(row: TrainingRow) -> tuple[str, ...]:
    """Returns why no ε bounds what a choice by this training reveals."""
    by_noise = {"": (WITHOUT_PRIVACY,), "seeded": (SEEDED,), "entropy": ()}
    return (*by_noise[row.noise], *filter(None, [row.objection]))
