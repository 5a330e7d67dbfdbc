"""What it costs to choose one trial of a study by looking at the results of all."""

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
    """What it costs to choose the best trial of a study by looking at them all."""

    trained: int
    """Trainings that could be looked at: of all plans and cohorts on the same data, failed and deleted ones too."""
    private: int
    """Private ones among them."""
    epsilon: float
    """ε of all private ones together, by RDP; infinity if nothing bounds it."""
    alone: float
    """The most that one of them spends by itself."""
    delta: float
    unknown: int = 0
    """Private trials of which the ledger knows nothing."""

    @property
    def text(self) -> str:
        """In a sentence; empty where nothing is private, or nothing is to choose."""
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
    """What choosing the best costs: all trainings compose, since each could have been the one.

    Args:
        store: of the study.
        dataset: on which the choice is made.
        trainings: of that study, as the ledger of the data knows them; empty where none keeps account.
    """
    private = [one for one in trainings if one.noise]
    known_ones = {one.training for one in trainings}
    stored = store.trained_on(dataset.origin.digest, dataset.name)
    unknown = {trial for trial, is_private in stored.items() if is_private} - known_ones
    charges = [one.charge for one in private]
    delta = max((m.delta for charge in charges for own in charge.values() for m in own), default=0.0)
    known = bool(private) and not unknown and all(spends(one.charge) and not one.objection for one in private)
    return Choice(
        trained=len(trainings) + len(unknown),
        private=len(private) + len(unknown),
        unknown=len(unknown),
        epsilon=rdp_epsilon_of(charges, delta=delta) if known else float("inf"),
        alone=max(rdp_epsilon_of([charge], delta=delta) for charge in charges) if known else float("inf"),
        delta=delta,
    )


def looked_at(ledger: LedgerProtocol, store: Store, chosen: Candidate) -> list[Candidate]:
    """All other trainings that a choice may have been made by, whatever became of them, to be charged with it.

    Raises:
        LedgerError: the ledger does not know the chosen one, or another on the same data, and so not what they spent.
    """
    location = location_of(store.location)
    trainings = ledger.trainings(location)
    stored = set(store.trained_on(ledger.about("digest"), ledger.name))
    if stored - {one.training for one in trainings} or all(
        one.artefact != chosen.request.artefact for one in trainings
    ):
        raise LedgerError(
            f"the ledger of {ledger.name} does not know all trainings in {location} that {chosen.request.label} may "
            "have been chosen by, and so not what they spent: name the ledger with which the study ran, and its "
            "results where they were. What was trained without it, or by an earlier version, nobody can charge: "
            "choose without looking, or begin again in a new folder"
        )
    return [
        Candidate(
            trial=one.training,
            cohort=chosen.cohort,
            data=chosen.data,
            recipe={},
            request=ReleaseRequest(training=one.training, label=one.label, charge=one.charge, artefact=one.artefact),
            objections=_objections(one),
        )
        for one in trainings
        if one.artefact != chosen.request.artefact
    ]


def _objections(one: TrainingRow) -> tuple[str, ...]:
    """Why nothing bounds what a choice by this training reveals."""
    by_noise = {"": (WITHOUT_PRIVACY,), "seeded": (SEEDED,), "entropy": ()}
    return (*by_noise[one.noise], *filter(None, [one.objection]))
