"""The ledger of one data set: the experiments on its records, the releases from it, and the ε that these spend.

Experiments stay with the curator and are only recorded. A release (serving to others, or exporting a model or a report)
is charged, and is refused beyond the budget. A training that may be released reserves its part of the budget from its
beginning, permanently; only trainings that never began are given back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from assay.ledger.account import Account, Budget, ReleaseRequest, require_possible_charge
from assay.ledger.charges import Charges
from assay.ledger.database import Collection, LedgerFile, LedgerMark
from assay.ledger.experiments import Experiment, ExperimentTable, Processing, Trace
from assay.ledger.patients import Patients
from assay.ledger.protocol import LedgerProtocol
from assay.ledger.trainings import TrainingRow, TrainingTable
from assay.privacy.composition import Charge


class Ledger(LedgerProtocol):
    """Ledger in one SQLite file per data set, safe with concurrent writers. ``LedgerProtocol`` documents the methods.

    Args:
        path: of an existing ledger; ``create`` makes a new one.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = LedgerFile(path)
        self._patients = Patients(self._file)
        self._experiments = ExperimentTable(self._file)
        self._trainings = TrainingTable(self._file)
        self._charges = Charges(self._file, self._patients)
        self.path = path

    @classmethod
    def create(cls, folder: Path, collection: Collection, known: LedgerMark | None = None) -> "Ledger":
        """Opens the ledger of a data set in a folder, or creates it; see ``LedgerFile.create``.

        Args:
            folder: of the ledgers.
            collection: the data set.
            known: mark of the ledger that was used before.

        Returns:
            The ledger.
        """
        return cls(LedgerFile.create(folder, collection, known).path)

    @property
    def name(self) -> str:
        return self._file.name

    @property
    def records(self) -> int:
        return self._file.records

    def mark(self) -> LedgerMark:
        return self._file.mark()

    def about(self, key: str) -> str:
        return self._file.about(key)

    def verify(self, head: str = "") -> str:
        return self._file.verify(head)

    def experiments(self) -> list[Experiment]:
        return self._experiments.experiments()

    def processings(self) -> list[tuple[Processing, int, int]]:
        return self._experiments.processings()

    def expired(self, today: str) -> list[Experiment]:
        return self._experiments.expired(today)

    def positions_of(self, patient: str) -> np.ndarray:
        return self._patients.positions_of(patient)

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        return self._experiments.traces(positions)

    def erasures(self) -> list[tuple[str, str, str]]:
        return self._experiments.erasures()

    def trainings(self, results: str) -> list[TrainingRow]:
        return self._trainings.trainings(results)

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        self._charges.set_budget(epsilon, delta=delta, reason=reason)

    def reserve(self, request: ReleaseRequest) -> None:
        self._charges.reserve(request)

    def drop(self, trials: Iterable[str]) -> list[str]:
        return self._charges.drop(trials)

    def release(
        self,
        requests: Sequence[ReleaseRequest],
        *,
        how: str,
        processing: Processing,
        epsilon: float | None = None,
        delta: float | None = None,
        reason: str = "",
        looked_at: Sequence[ReleaseRequest] = (),
        plan: Sequence[ReleaseRequest] | None = None,
        unguarded: bool = False,
        rehearsed: bool = False,
    ) -> None:
        self._charges.release(
            requests,
            how=how,
            processing=processing,
            epsilon=epsilon,
            delta=delta,
            reason=reason,
            looked_at=looked_at,
            plan=plan,
            unguarded=unguarded,
            rehearsed=rehearsed,
        )

    def account(self) -> Account:
        return self._charges.account()

    def budgets(self) -> list[Budget]:
        return self._charges.budgets()

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        request = ReleaseRequest(training=experiment.training, label=experiment.label, charge=charge)
        require_possible_charge(request)
        with self._file.writing(verified=experiment.noise == "entropy") as db:
            self._experiments.record(db, experiment, roles)
            if not roles.any():
                return
            training = self._trainings.begin(db, experiment, charge)
            if experiment.noise == "entropy":
                self._charges.start(db, replace(request, artefact=training))

    def end(
        self,
        experiment: Experiment,
        roles: np.ndarray,
        *,
        artefact: str = "",
        objection: str = "",
        accounted: bool = True,
    ) -> None:
        with self._file.writing() as db:
            self._experiments.record(db, experiment, roles)
            self._trainings.end(db, experiment, artefact, objection, accounted=accounted)

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        with self._file.writing() as db:
            deleted = [experiment for experiment in experiments if self._experiments.erase(db, experiment)]
            if deleted:
                self._experiments.note_erasure(db, asked, f"{len(deleted)} trials")
