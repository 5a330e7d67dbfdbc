"""The ledger of one data set: what was done with its records, what was released of them, and what that spent.

Experiments stay with the curator and are recorded. Releasing, which is serving to others or exporting a model or a
report, is charged, composes with all that was released before, and is refused beyond the budget.
"""

import sqlite3
from collections.abc import Iterable

import numpy as np

from assay.privacy.composition import Charge
from assay.privacy.ledger.account import Offer
from assay.privacy.ledger.charges import Charges
from assay.privacy.ledger.experiments import UNFINISHED, Experiment
from assay.privacy.ledger.trainings import Trainings


class Ledger(Charges, Trainings):
    """One SQLite file a data set, safe with concurrent writers; see ``Charges``, ``Experiments`` and ``Trainings``.

    Every method may be called twice with the same effect: on a cluster a question whose answer was lost is asked again.
    """

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        """Note a training, and hold what it will spend, before it sees a record.

        Only what may ever be released holds a part of the budget: training with ``noise: entropy``.

        Args:
            roles: (records,) uint8, what becomes of each record, a position in ``ROLES``.
            charge: what it is going to spend.

        Raises:
            BudgetError: the budget does not hold it, with what is spent, asked and allowed.
            LedgerError: it costs nothing.
        """
        with self._writing() as db:
            self._record(db, experiment, roles)
            if roles.any():
                self._begin_training(db, experiment, charge)
            if experiment.noise == "entropy":
                self._reserve(db, Offer(trial=experiment.trial, label=experiment.label, charge=charge))

    def end(self, experiment: Experiment, roles: np.ndarray, *, artefact: str = "", objection: str = "") -> None:
        """Note how a training ended; of one that failed, give back what is reserved, unless another run needs it.

        Args:
            artefact: hash of its weights; empty if it left none.
            objection: why its charge does not bound what it reveals; empty if nothing speaks against it.
        """
        with self._writing() as db:
            self._record(db, experiment, roles)
            self._end_training(db, experiment, artefact, objection)
            if experiment.error:
                self._give_back(db, [experiment.trial])

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        """Note that models and results were deleted, and give back what is reserved for them.

        Charges stay: what was spent is never given back.
        """
        with self._writing() as db:
            gone = [one for one in experiments if self._erase(db, one)]
            if gone:
                self._note_erasure(db, asked, f"{len(gone)} trials")
                self._give_back(db, [one.trial for one in gone])

    def _give_back(self, db: sqlite3.Connection, trials: Iterable[str]) -> None:
        """Drop the reservations of trials that nobody runs or keeps any more.

        Studies that share recipe and data share a trial and its reservation. One that was cut short elsewhere and never
        resumed keeps it too: nobody can tell whether it still runs.
        """
        for trial in trials:
            needed = db.execute(
                "SELECT 1 FROM experiments WHERE trial = ? AND erased = '' AND error IN ('', ?)", (trial, UNFINISHED)
            )
            if needed.fetchone() is None:
                self._drop(db, trial)
