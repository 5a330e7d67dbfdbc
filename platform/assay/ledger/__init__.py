"""The ledger of one data set: what was done with its records, what was released of them, and what that spent.

Experiments stay with the curator and are recorded. Releasing, which is serving to others or exporting a model or a
report, is charged, and is refused beyond the budget. A training that may be released holds its part of the budget from
the moment it begins, and for good: only what never began is given back.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from assay.ledger.account import ReleaseRequest, require_possible_charge
from assay.ledger.charges import Charges
from assay.ledger.experiments import Experiment
from assay.ledger.trainings import Trainings
from assay.privacy.composition import Charge


class Ledger(Charges, Trainings):
    """One SQLite file a data set, safe with concurrent writers; see ``Charges``, ``Experiments`` and ``Trainings``.

    Every method may be called twice with the same effect: on a cluster a question whose answer was lost is asked again.
    """

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        """Note a training, and hold what it will spend, before it sees a record.

        Only what may ever be released holds a part of the budget: training with ``noise: entropy``. From here on it
        counts for good, whatever becomes of it.

        Args:
            roles: (records,) uint8, what becomes of each record, a position in ``ROLES``.
            charge: what it is going to spend.

        Raises:
            BudgetError: the budget does not hold it, with what is spent, asked and allowed.
            LedgerError: it costs nothing, its figures are none, or the ledger was changed by another hand.
        """
        request = ReleaseRequest(trial=experiment.trial, label=experiment.label, charge=charge)
        require_possible_charge(request)
        with self._writing(verified=experiment.noise == "entropy") as db:
            self._record(db, experiment, roles)
            if not roles.any():
                return
            training = self._begin_training(db, experiment, charge)
            if experiment.noise == "entropy":
                self._start(db, replace(request, artefact=training))

    def end(self, experiment: Experiment, roles: np.ndarray, *, artefact: str = "", objection: str = "") -> None:
        """Note how a training ended. One that failed counts as well: how it failed may have steered what followed.

        Args:
            artefact: hash of its weights; empty if it left none.
            objection: why its charge does not bound what it reveals; empty if nothing speaks against it.
        """
        with self._writing() as db:
            self._record(db, experiment, roles)
            self._end_training(db, experiment, artefact, objection)

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        """Note that models and results were deleted. What they spent stays spent."""
        with self._writing() as db:
            gone = [one for one in experiments if self._erase(db, one)]
            if gone:
                self._note_erasure(db, asked, f"{len(gone)} trials")
