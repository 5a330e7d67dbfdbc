"""The interface of a ledger, implemented by ``Ledger`` on this machine and by ``RemoteLedger`` on a cluster."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from assay.ledger.account import Account, Budget, ReleaseRequest
from assay.ledger.database import LedgerMark
from assay.ledger.experiments import Experiment, Processing, Trace
from assay.ledger.trainings import TrainingRow
from assay.privacy.composition import Charge


class LedgerProtocol(Protocol):
    """The ledger of one data set.

    Every method may be called twice with the same effect: on a cluster a call whose reply was lost is repeated.
    """

    path: Path
    """Path of its file, on the machine that writes it."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def records(self) -> int:
        """Number of records of the data set."""
        ...

    def mark(self) -> LedgerMark:
        """Returns the identity and place of the ledger, by which a study finds it again.

        Returns:
            The mark.
        """
        ...

    def about(self, key: str) -> str:
        """Returns a fact that was stored when the ledger was created.

        Args:
            key: of the fact, such as ``id`` of the ledger or ``digest`` of the data.

        Returns:
            The fact as text.
        """
        ...

    def verify(self, head: str = "") -> str:
        """Checks that every row is as it was written, and that no other program added or deleted one.

        Args:
            head: the result of an earlier call that was kept elsewhere; the ledger must continue from that state.

        Returns:
            The hash of the last seal, to be kept elsewhere; empty for a ledger of an earlier version, whose rows are
            sealed at the next write.

        Raises:
            LedgerError: names the first row that was changed; or ``head`` does not belong to this ledger.
        """
        ...

    def experiments(self) -> list[Experiment]:
        """Returns every trial that used the data.

        Returns:
            The trials, in the order of recording.
        """
        ...

    def processings(self) -> list[tuple[Processing, int, int]]:
        """Returns every stated purpose of processing.

        Returns:
            For each purpose, the number of its experiments and of its releases.
        """
        ...

    def expired(self, today: str) -> list[Experiment]:
        """Returns trials whose results still exist although their retention date has passed.

        The date is that of the trial, or else that of its release.

        Args:
            today: YYYY-MM-DD.

        Returns:
            The trials.
        """
        ...

    def positions_of(self, patient: str) -> np.ndarray:
        """Returns the positions of a patient's records.

        Args:
            patient: ID of the patient.

        Returns:
            (k,) positions in the data set.

        Raises:
            LedgerError: the records have no patients, or none has this ID.
        """
        ...

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        """Returns every trial that used one of these records, with their role; training has precedence over testing.

        Args:
            positions: of the records in the data set.

        Returns:
            One trace for each trial.

        Raises:
            LedgerError: there is no such record.
        """
        ...

    def erasures(self) -> list[tuple[str, str, str]]:
        """Returns all erasures.

        Returns:
            For each: time, request, and what was deleted.
        """
        ...

    def trainings(self, results: str) -> list[TrainingRow]:
        """Returns every training of a study on these data, over all its cohorts and plans, in the order of their start.

        Args:
            results: location where the study stores its trials.

        Returns:
            The trainings.
        """
        ...

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        """Sets the budget, or changes it with a reason; an equal budget changes nothing.

        The bound of an RDP filter holds for a budget that is fixed beforehand. Who raises it after a release must not
        do so
        because of what the release shows; the reason stays on record.

        Args:
            epsilon: total ε of all releases.
            delta: δ of that ε; by default the one in force.
            reason: why the budget changes.

        Raises:
            LedgerError: ε is not positive, δ is too large for a guarantee, the budget would change without a reason, or
                more is already spent.
        """
        ...

    def reserve(self, request: ReleaseRequest) -> None:
        """Reserves a part of the budget for a planned training. A second call for it reserves nothing more.

        Args:
            request: the training and its charge.

        Raises:
            BudgetError: the budget is too small; gives what is spent, requested and allowed.
            LedgerError: the charge is zero or impossible, or another program changed the ledger.
        """
        ...

    def drop(self, trials: Iterable[str]) -> list[str]:
        """Releases the reservations of trainings that never began.

        Trainings that began, releases and all parts of a declared plan stay.

        Args:
            trials: identifiers of the trainings.

        Returns:
            Labels of the trainings that reserve nothing any more.
        """
        ...

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
        """Charges models before they are released: all of them or none. A model that is charged already is not charged
        again.

        Args:
            requests: the models.
            how: destination, as text.
            processing: purpose of the release.
            epsilon: the budget, see ``set_budget``; may be omitted if it is set.
            delta: of the budget.
            reason: why the budget changes.
            looked_at: models whose results influenced the choice: they are not released, but charged too.
            plan: everything that may ever be released, fixed before the first release.
            unguarded: without a budget, record the release instead of refusing it.
            rehearsed: raise the errors of a release, but change nothing.

        Raises:
            LedgerError: there is no budget, or it is too small; a model is not in the plan; a charge is zero or
                impossible; or another program changed the ledger.
        """
        ...

    def account(self) -> Account:
        """Returns the state of the budget, and every charge.

        Composition takes a second or two for each different mechanism.

        Returns:
            The account.
        """
        ...

    def budgets(self) -> list[Budget]:
        """Returns every budget that was ever set; the last one is in force.

        Returns:
            The budgets.
        """
        ...

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        """Records a training and reserves its charge, before it sees a record.

        Only a training that may be released reserves budget: one with ``noise: entropy``. From now on it counts
        permanently,
        whatever its outcome.

        Args:
            experiment: the training.
            roles: (records,) uint8, the role of each record as an index of ``ROLES``.
            charge: what it will spend.

        Raises:
            BudgetError: the budget is too small; gives what is spent, requested and allowed.
            LedgerError: the charge is zero or impossible, or another program changed the ledger.
        """
        ...

    def end(
        self,
        experiment: Experiment,
        roles: np.ndarray,
        *,
        artefact: str = "",
        objection: str = "",
        accounted: bool = True,
    ) -> None:
        """Records the outcome of a training. A failed one counts too: its failure may have influenced what followed.

        Args:
            experiment: the training, with its error if it failed.
            roles: (records,) uint8, the role of each record as an index of ``ROLES``.
            artefact: hash of its weights; empty if there are none.
            objection: why its charge does not bound what it reveals; empty if there is no objection.
            accounted: whether the objection rests on a measured ε. If it does not, and the training has ended before,
                the objection that is stored stays.
        """
        ...

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        """Records that models and results were deleted. Their charges stay.

        Args:
            experiments: the deleted trials.
            asked: the request for deletion, as text.
        """
        ...
