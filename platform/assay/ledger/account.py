"""What a ledger says of its charges: plain data, without the file."""

import math
from dataclasses import dataclass
from typing import Literal

from assay.errors import LedgerError
from assay.privacy.accounting import impossible
from assay.privacy.composition import Charge
from assay.privacy.unit import Unit

ChargeState = Literal["reserved", "trained", "released", "dropped"]
"""``reserved``: planned, and not begun. ``trained``: begun, whatever became of it, and counted for good. ``released``:
has left, or was looked at by whoever chose what left. ``dropped``: counts no more, since it never began, or began while
there was no budget."""


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """A trained model that is to leave, or a training that is to begin."""

    training: str
    """Names the trained model; of an earlier version the trial."""
    label: str
    charge: Charge
    artefact: str = ""
    """Hash of the weights; a training that has not begun has none. Two trainings of one trial are two releases."""


def require_possible_charge(request: ReleaseRequest) -> None:
    """Raises LedgerError where a charge has figures that no mechanism can have, before any transaction begins.

    Raises:
        LedgerError: one of them is NaN, infinite, negative or otherwise impossible; names it.
    """
    for mechanism in (one for own in request.charge.values() for one in own):
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
    """One charge as it stands."""

    training: str
    """Names the trained model; of an earlier version the trial."""
    artefact: str
    label: str
    charge: Charge
    state: ChargeState
    plan: str
    """Name of the plan to which it belongs; empty for a release that was chosen after others."""
    released: str
    """When; empty if it was not."""
    processing: int | None
    """Number of the purpose for which it was released."""
    departures: tuple[str, ...] = ()
    """Where to, and when."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent in all."""

    epsilon: float
    delta: float
    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """How a budget stands."""

    budget: Budget | None
    accountant: str
    """That holds the budget: an RDP filter at its order, or PLD of a declared plan."""
    plan: str
    """The one declared plan to which all charges belong; empty if releases are chosen one after the other."""
    released: float
    """ε of everything released, by that accountant: so far, or of a plan of which anything has left, all of it."""
    held: float
    """ε of everything released, trained or reserved, by that accountant."""
    rdp: float
    """ε of everything released, as if its set had been fixed beforehand, by RDP."""
    pld: float
    """The same by PLD."""
    delta: float
    charges: tuple[ChargeOnRecord, ...]
    unit: Unit = "record"
    """For whom every ε here holds: for one patient if all that counts protects patients, else for one record."""

    @property
    def bound(self) -> float:
        """ε of all that has left or will, however each release follows from the ones before; infinity without a budget.

        Where releases are chosen one after the other, the moment at which ``released`` is read is chosen too, and a
        filter bounds nothing at such a moment but its budget.
        """
        if self.plan:
            return self.held
        return math.inf if self.budget is None else self.budget.epsilon

    @property
    def bounded_by(self) -> str:
        """What ``bound`` rests on, in words."""
        if self.plan:
            return f"bounded by PLD of the whole plan {self.plan}, whichever part of it leaves"
        return "bounded by nothing" if self.budget is None else f"bounded by the budget of ε = {self.budget.epsilon:g}"

    @property
    def left(self) -> float:
        """By how much ``held`` may still rise, the budget less what is held; NaN without a budget.

        Not what one more release may spend by itself: ε does not add up. At the order of a filter a release adds its
        Rényi divergence, which lies below the ε that it has alone.
        """
        return math.nan if self.budget is None else max(0.0, self.budget.epsilon - self.held)
