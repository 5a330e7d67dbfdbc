"""What may be asked of a ledger, whether its file lies here or an actor of the cluster writes it."""

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

    Every method may be called twice with the same effect: on a cluster a question whose answer was lost is asked again.
    """

    path: Path
    """Of its file, on the machine that writes it."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def records(self) -> int:
        """Records of the data set."""
        ...

    def mark(self) -> LedgerMark:
        """By which it is found again."""
        ...

    def about(self, key: str) -> str:
        """A fact that was noted when the ledger was made: its ``id``, or the ``digest`` of the data."""
        ...

    def verify(self, head: str = "") -> str:
        """Check that every row is as it was written, and that none was added or deleted by another hand.

        Args:
            head: what an earlier call returned and was kept elsewhere; the ledger must go on from there.

        Returns:
            The hash of the last seal, to be kept elsewhere; empty of a ledger of an earlier version, whose rows are
            sealed when it is next written to.

        Raises:
            LedgerError: names the first row that is not as it was written; or ``head`` is none of this ledger.
        """
        ...

    def experiments(self) -> list[Experiment]:
        """Every trial that touched the data."""
        ...

    def processings(self) -> list[tuple[Processing, int, int]]:
        """Every purpose that was ever stated, with how many experiments and how many releases it stands for."""
        ...

    def expired(self, today: str) -> list[Experiment]:
        """Trials that are still kept though their last day has passed: their own, or else that of their release."""
        ...

    def positions_of(self, patient: str) -> np.ndarray:
        """Positions of a patient's records.

        Raises:
            LedgerError: records of these data have no patients, or none has this one.
        """
        ...

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        """Every trial that used one of these records, and what it did with them; training counts before testing.

        Raises:
            LedgerError: there is no such record.
        """
        ...

    def erasures(self) -> list[tuple[str, str, str]]:
        """When, what was asked for, and what was deleted."""
        ...

    def trainings(self, results: str) -> list[TrainingRow]:
        """Every training of a study on these data, over all its cohorts and plans, in the order of their beginning.

        Args:
            results: where the study keeps its trials.
        """
        ...

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        """Fix the budget, or with a reason change it; the same again changes nothing.

        A filter's bound holds for a budget that is fixed beforehand: who raises it after seeing releases must not do
        so because of what they show, and the reason stays on record.

        Raises:
            LedgerError: it is not positive, its δ promises nothing, it would change without a reason, or more is spent.
        """
        ...

    def reserve(self, request: ReleaseRequest) -> None:
        """Hold a part of the budget for a training that is planned. The same trial again holds nothing more.

        Raises:
            BudgetError: the budget does not hold it, with what is spent, asked and allowed.
            LedgerError: it costs nothing, its figures are none, or the ledger was changed by another hand.
        """
        ...

    def drop(self, trials: Iterable[str]) -> list[str]:
        """Give back what is reserved for trainings that never began; the labels of those trials that hold nothing now.

        What began stays, and so do releases and every part of a declared plan.
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
        """Charge models before they leave: all of them, or nothing at all. What was charged before is not again.

        Args:
            how: where they go, in words.
            epsilon: the budget, see ``set_budget``; may be left out if it is set.
            looked_at: models whose results the choice was made by: they stay, and are charged likewise.
            plan: everything that may ever leave, fixed before any of it has left.
            unguarded: without a budget, record the release instead of refusing it.
            rehearsed: raise what would be raised, and change nothing.

        Raises:
            LedgerError: there is no budget, or it does not hold them; they are not in the plan, cost nothing, or their
                figures are none; or the ledger was changed by another hand.
        """
        ...

    def account(self) -> Account:
        """How the budget stands, and every charge. Composing takes a second or two for each unlike mechanism."""
        ...

    def budgets(self) -> list[Budget]:
        """Every budget that was ever set, the last one in force."""
        ...

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
        ...

    def end(self, experiment: Experiment, roles: np.ndarray, *, artefact: str = "", objection: str = "") -> None:
        """Note how a training ended. One that failed counts as well: how it failed may have steered what followed.

        Args:
            artefact: hash of its weights; empty if it left none.
            objection: why its charge does not bound what it reveals; empty if nothing speaks against it.
        """
        ...

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        """Note that models and results were deleted. What they spent stays spent."""
        ...
