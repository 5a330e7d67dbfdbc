"""State of a ledger as plain data, independent of its file."""

import math
from dataclasses import dataclass
from typing import Literal

from assay.errors import LedgerError
from assay.privacy.accounting import impossible
from assay.privacy.composition import Charge
from assay.privacy.unit import Unit

ChargeState = Literal["reserved", "trained", "released", "dropped"]
"""``reserved``: planned, not begun. ``trained``: begun, whatever its outcome; counts permanently. ``released``: public,
or its results influenced the choice of a release. ``dropped``: no longer counts, because it never began, or began
without a budget."""


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """A trained model to be released, or a training that is about to begin."""

    training: str
    """Identifier of the trained model; for ledgers of an earlier version, of the trial."""
    label: str
    charge: Charge
    artefact: str = ""
    """Hash of the weights; empty for a training that has not begun. Two trainings of one trial are two releases."""


def require_possible_charge(request: ReleaseRequest) -> None:
    """Raises an error where a charge has impossible values, before a transaction begins.

    Args:
        request: the charge.

    Raises:
        LedgerError: a value is NaN, infinite, negative or otherwise impossible; names it.
    """
    for mechanism in (mechanism for mechanisms in request.charge.values() for mechanism in mechanisms):
        if wrong := impossible(mechanism):
            setting, given, allowed = wrong
            raise LedgerError(
                f"{request.label}: its {setting.replace('_', ' ')} is {given}, and {allowed} is needed: nothing can be "
                "charged for it; train it again, so that its account is noted",
                setting=setting,
                given=given,
                allowed=allowed,
            )


@dataclass(frozen=True, kw_only=True)
class ChargeOnRecord:
    """One charge of the ledger."""

    training: str
    """Identifier of the trained model; for ledgers of an earlier version, of the trial."""
    artefact: str
    label: str
    charge: Charge
    state: ChargeState
    plan: str
    """Name of its declared plan; empty if it belongs to none."""
    released: str
    """Time of release; empty if it was not released."""
    processing: int | None
    """Number of the purpose of the release."""
    departures: tuple[str, ...] = ()
    """Destinations, with the time of each."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Total ε and δ that all releases may spend together."""

    epsilon: float
    delta: float
    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """State of the budget of a ledger."""

    budget: Budget | None
    accountant: str
    """Method of composition: an RDP filter at its order, or PLD of a declared plan."""
    plan: str
    """The one declared plan to which all charges belong; empty if releases are chosen one after the other."""
    released: float
    """ε of everything released so far, by that accountant; of the whole plan once a part of it is released."""
    held: float
    """ε of everything released, trained or reserved, by that accountant."""
    rdp: float
    """ε of everything released by RDP, as if all releases had been fixed beforehand."""
    pld: float
    """The same by PLD."""
    delta: float
    charges: tuple[ChargeOnRecord, ...]
    unit: Unit = "record"
    """Who is protected by every ε here: a patient if all charges protect patients, otherwise a record."""

    @property
    def bound(self) -> float:
        """Upper bound on the ε of all past and future releases, even if each depends on earlier ones.

        It is infinite without a budget.

        Where releases are chosen one after the other, the time of reading ``released`` is also a choice, and an RDP
        filter
        guarantees nothing at such a time except its budget.
        """
        if self.plan:
            return self.held
        return math.inf if self.budget is None else self.budget.epsilon

    @property
    def bounded_by(self) -> str:
        """Reason for ``bound``, as text."""
        if self.plan:
            return f"bounded by PLD of the whole plan {self.plan}, whichever part of it leaves"
        return "bounded by nothing" if self.budget is None else f"bounded by the budget of ε = {self.budget.epsilon:g}"

    @property
    def left(self) -> float:
        """Remaining ε: the budget minus ``held``; NaN without a budget.

        It is not the ε that one more release may spend alone, because ε does not add up. At the order of the filter a
        release
        adds its Rényi divergence, which is less than its ε alone.
        """
        return math.nan if self.budget is None else max(0.0, self.budget.epsilon - self.held)
