"""What was released from a data set, what is reserved for trials that still run, and the budget that holds both."""

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from assay.errors import BudgetError, LedgerError
from assay.privacy.accounting import unsafe_delta
from assay.privacy.composition import (
    charge_from_json,
    charge_to_json,
    filter_epsilon,
    filter_order,
    pld_epsilon_of,
    rdp_epsilon_of,
    spends,
)
from assay.privacy.ledger.account import Account, Budget, Held, Offer, State
from assay.privacy.ledger.database import now
from assay.privacy.ledger.experiments import UNFINISHED, Experiments, Processing, processing_id

DELTA = 1e-5
"""δ of a ledger whose budget names none."""
_SLACK = 1e-9


class Charges(Experiments):
    """The part of a ledger that counts.

    A *release* is charged, an experiment is not. A charge is reserved under the trial's id before its training begins,
    so that two trainings never count on the same remainder, and becomes a release under the same id: once, however
    often a trial is resumed or served. A reservation holds its part of the budget until it is dropped, which is sound
    as long as nothing has left; a dropped trial may be released later, and is then charged. What was released is never
    given back, nor any part of a declared plan of which something was released. Where no budget is set, reservations
    are noted and hold nothing.

    What counts is the whole of what is released or reserved, by an RDP filter at one order, fixed with the first
    release; or by PLD while the ledger holds one declared plan and nothing else.
    """

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        """Fix the budget, or with a reason change it; the same again changes nothing.

        A filter's bound holds for a budget that is fixed beforehand: who raises it after seeing releases must not do
        so because of what they show, and the reason stays on record.

        Raises:
            LedgerError: it is not positive, its δ promises nothing, it would change without a reason, or more is spent.
        """
        with self._writing() as db:
            self._set_budget(db, epsilon, delta, reason)

    def reserve(self, offer: Offer) -> None:
        """Hold a part of the budget for a training that is planned. The same trial again holds nothing more.

        Raises:
            BudgetError: the budget does not hold it, with what is spent, asked and allowed.
            LedgerError: it costs nothing.
        """
        with self._writing() as db:
            self._reserve(db, offer)

    def drop(self, trials: Iterable[str]) -> list[str]:
        """Give back what is reserved for trials of which nothing has left; the labels of those that hold nothing now.

        Releases stay.
        """
        with self._writing() as db:
            return [label for trial in trials for label in self._drop(db, trial)]

    def release(
        self,
        offers: Sequence[Offer],
        *,
        how: str,
        processing: Processing,
        epsilon: float | None = None,
        delta: float | None = None,
        reason: str = "",
        looked_at: Sequence[Offer] = (),
        plan: Sequence[Offer] | None = None,
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
            LedgerError: there is no budget, or it does not hold them; they are not in the plan, or cost nothing.
        """
        with self._folder_locked(), self._writing(undone=rehearsed) as db:
            if epsilon is not None:
                self._set_budget(db, epsilon, delta, reason)
            elif self._budget(db) is None and not unguarded:
                raise LedgerError(
                    f"the ledger of {self.name} has no budget yet; give one, such as --budget 3 (budget=3 where a "
                    "model is served): the ε that everything ever released from these data may spend together"
                )
            if plan is not None:
                self._declare(db, plan, offers)
            asked = {(offer.trial, offer.artefact): offer for offer in (*offers, *looked_at)}
            assert all(artefact for _, artefact in asked), "what leaves is named by the hash of its weights"
            fresh = [offer for offer in asked.values() if not self._is_released(db, offer)]
            number = processing_id(db, processing) if fresh else None
            for offer in fresh:
                known = db.execute(
                    "SELECT plan FROM charges WHERE trial = ? AND artefact = ''", (offer.trial,)
                ).fetchone()
                # A training that is still under way keeps what it holds: it will be a release of its own.
                db.execute(
                    """DELETE FROM charges WHERE trial = ? AND artefact = '' AND NOT EXISTS
                    (SELECT 1 FROM experiments WHERE trial = ? AND error = ? AND erased = '')""",
                    (offer.trial, offer.trial, UNFINISHED),
                )
                self._insert(db, offer, "released", plan=known["plan"] if known else "", processing=number)
            if fresh or plan is not None:
                self._refuse_second_account(unguarded=unguarded)
                self._admit(db, fresh)
            self._depart(db, offers, how)

    def account(self) -> Account:
        """How the budget stands, and every charge. Composing takes a second or two for each unlike mechanism."""
        with self._reading() as db:
            budget, charges, order = self._budget(db), self._held(db), self._order(db)
        delta = DELTA if budget is None else budget.delta
        plan, counted = _counted(charges)
        gone = [held for held in charges if held.released]
        out = [held.charge for held in gone]
        spent = counted if plan and gone else gone
        return Account(
            budget=budget,
            accountant=f"PLD of the plan {plan}" if plan else _filter_text(order),
            plan=plan,
            released=_epsilon(spent, order=order, delta=delta, planned=bool(plan)),
            held=_epsilon(counted, order=order, delta=delta, planned=bool(plan)),
            rdp=rdp_epsilon_of(out, delta=delta),
            pld=pld_epsilon_of(out, delta=delta),
            delta=delta,
            charges=tuple(charges),
        )

    def budgets(self) -> list[Budget]:
        """Every budget that was ever set, the last one in force."""
        with self._reading() as db:
            return [Budget(**dict(row)) for row in db.execute("SELECT * FROM budgets ORDER BY rowid")]

    def _refuse_second_account(self, *, unguarded: bool) -> None:
        """Let pass what has no other ledger in this folder that has released something of the same people.

        The records name a ledger, so the same people have two where they were read in two ways. Whether they are the
        same is told by their patients, where both name them; the name of the data set is the curator's word for it.

        Raises:
            LedgerError: there is one.
        """
        for path in sorted(self.path.parent.glob("*.sqlite")):
            other = type(self)(path)
            if path.name == self.path.name or other.name != self.name:
                continue
            with other._reading() as db:
                released = sum(bool(held.released) for held in other._held(db))
                counts = not unguarded or other._budget(db) is not None
            if released and counts and other.is_of_an_earlier_version:
                raise LedgerError(
                    f"{path.name} is a ledger of {self.name} too, made by an earlier version and not continued, and it "
                    f"has released {released}: give the data another name and train again, with a budget less what was "
                    "spent there"
                )
            shared = self.patients_shared_with(other) if released and counts else 0
            if shared != 0:
                told = (
                    "nobody can tell whether they share patients" if shared is None else f"they share {shared} patients"
                )
                raise LedgerError(
                    f"{path.name} is a ledger of {self.name} too, of other records or of the same in another size, "
                    f"length or form: {told}, it has released {released}, and two ledgers would grant the same people "
                    "two budgets. Release what was trained on the records as that one holds them. If these are other "
                    "people, say so: give the data another name, or patients' IDs as groups, and train again (after an "
                    "erasure too, with a budget less what was spent there)"
                )

    def _reserve(self, db: sqlite3.Connection, offer: Offer) -> None:
        """Hold a part of the budget for a training, before it sees a record. A resumed one holds nothing more.

        A trial that was released and is trained anew is another release, and holds its part too.
        """
        own = (offer.trial,)
        found = db.execute("SELECT state FROM charges WHERE trial = ? AND artefact = ''", own).fetchone()
        if found is not None and found["state"] == "reserved":
            return
        db.execute("DELETE FROM charges WHERE trial = ? AND artefact = '' AND state = 'dropped'", own)
        self._insert(db, replace(offer, artefact=""), "reserved", plan="")
        self._admit(db, [offer])

    def _drop(self, db: sqlite3.Connection, trial: str) -> list[str]:
        """Labels of what is dropped of a trial, now or before."""
        db.execute("UPDATE charges SET state = 'dropped' WHERE trial = ? AND state = 'reserved'", (trial,))
        found = db.execute("SELECT label FROM charges WHERE trial = ? AND state = 'dropped'", (trial,))
        return [str(row["label"]) for row in found]

    def _set_budget(self, db: sqlite3.Connection, epsilon: float, delta: float | None, reason: str) -> None:
        before = self._budget(db)
        delta = delta if delta is not None else DELTA if before is None else before.delta
        if not 0 < epsilon < math.inf:
            raise LedgerError(f"--budget {epsilon:g}: an ε above 0 is needed, which is finite")
        if not 0 < delta < 1:
            raise LedgerError(f"--delta {delta:g}: a δ above 0 is needed, far below 1/n = {1 / self.records:g}")
        if unsafe := unsafe_delta(delta, self.records):
            raise LedgerError(f"--delta {delta:g}: {unsafe}; set it below {1 / self.records:g}")
        if before is not None and (before.epsilon, before.delta) == (epsilon, delta):
            return
        if before is not None and not reason:
            raise LedgerError(
                f"the budget of {self.name} is ε = {before.epsilon:g} at δ = {before.delta:g}, not ε = {epsilon:g} at "
                f"δ = {delta:g}; leave --budget out, or change it and give --reason, which stays on record"
            )
        if before is None:
            # Whoever trained while there was no budget was promised no part of it.
            db.execute("UPDATE charges SET state = 'dropped' WHERE state = 'reserved' AND plan = ''")
        db.execute("INSERT INTO budgets VALUES (?, ?, ?, ?)", (now(), epsilon, delta, reason))
        self._admit(db, [])

    def _admit(self, db: sqlite3.Connection, asked: Sequence[Offer]) -> None:
        """Let the charges as they now stand pass, or raise: then the transaction leaves them as they were."""
        budget = self._budget(db)
        plan, counted = _counted(self._held(db))
        if budget is None or not counted:
            return
        new = {(offer.trial, offer.artefact) for offer in asked}
        before = [held for held in counted if (held.trial, held.artefact) not in new]
        gone = any(held.released for held in before)
        if not gone or self._order(db) is None:
            # What will be released first may say at which order all is counted, and nothing that is chosen later.
            fixing = [held.charge for held in (before if gone else counted)]
            self._fix_order(db, filter_order(fixing, epsilon=budget.epsilon, delta=budget.delta))
        planned, order = bool(plan), self._order(db)
        together = _epsilon(counted, order=order, delta=budget.delta, planned=planned)
        if together <= budget.epsilon + _SLACK:
            return
        spent = _epsilon(before, order=order, delta=budget.delta, planned=planned)
        own = [held for held in counted if (held.trial, held.artefact) in new]
        raise BudgetError(
            f"the ledger of {self.name} refuses: the budget is ε = {budget.epsilon:g} at δ = {budget.delta:g}, "
            f"{_spent_text(before, spent)}, and "
            + (
                f"{_labels(own)} asks ε = {_epsilon(own, order=order, delta=budget.delta, planned=planned):.4g} alone, "
                if own
                else ""
            )
            + f"together ε = {together:.4g} by {'PLD' if planned else _filter_text(order)}. Release or train less, "
            "drop reservations that nobody needs (jobs.ledger erase --reservations), or raise --budget with a --reason"
        )

    def _declare(self, db: sqlite3.Connection, plan: Sequence[Offer], offers: Sequence[Offer]) -> None:
        """Reserve a plan as a whole. Its name is its content, so the same plan again is the same."""
        trials = {offer.trial for offer in plan}
        name = f"of {len(trials)} trials, {hashlib.sha256(' '.join(sorted(trials)).encode()).hexdigest()[:8]}"
        outside = [offer.label for offer in offers if offer.trial not in trials]
        if outside:
            raise LedgerError(f"{', '.join(outside)} is not in the declared plan; release it without --declared")
        rows = self._held(db)
        if any(held.plan == name for held in rows):
            return
        if any(held.released or held.plan for held in rows):
            raise LedgerError(
                f"something was released or declared from {self.name} before, and this plan was not: it may have been "
                "chosen by what was released; leave --declared out, and the RDP filter counts"
            )
        for offer in plan:
            db.execute("DELETE FROM charges WHERE trial = ?", (offer.trial,))
            self._insert(db, Offer(trial=offer.trial, label=offer.label, charge=offer.charge), "reserved", plan=name)

    def _insert(
        self, db: sqlite3.Connection, offer: Offer, state: State, *, plan: str, processing: int | None = None
    ) -> None:
        if not spends(offer.charge):
            raise LedgerError(
                f"{offer.label}: no mechanism that spends anything is known of it, and nothing private costs nothing; "
                "train it again, so that its account is noted"
            )
        released = now() if state == "released" else ""
        db.execute(
            "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                offer.trial,
                offer.artefact,
                offer.label,
                charge_to_json(offer.charge),
                state,
                plan,
                now(),
                released,
                processing,
            ),
        )

    def _is_released(self, db: sqlite3.Connection, offer: Offer) -> bool:
        found = db.execute(
            "SELECT 1 FROM charges WHERE trial = ? AND artefact = ? AND state = 'released'",
            (offer.trial, offer.artefact),
        )
        return found.fetchone() is not None

    def _depart(self, db: sqlite3.Connection, offers: Sequence[Offer], how: str) -> None:
        rows = [(offer.trial, offer.artefact, how, now()) for offer in offers]
        db.executemany("INSERT OR IGNORE INTO departures VALUES (?, ?, ?, ?)", rows)

    def _budget(self, db: sqlite3.Connection) -> Budget | None:
        row = db.execute("SELECT * FROM budgets ORDER BY rowid DESC LIMIT 1").fetchone()
        return None if row is None else Budget(**dict(row))

    def _order(self, db: sqlite3.Connection) -> float | None:
        row = db.execute("SELECT value FROM about WHERE key = 'order'").fetchone()
        return None if row is None else float(row["value"])

    def _fix_order(self, db: sqlite3.Connection, order: float | None) -> None:
        db.execute("DELETE FROM about WHERE key = 'order'")
        if order is not None:
            db.execute("INSERT INTO about VALUES ('order', ?)", (order,))

    def _held(self, db: sqlite3.Connection) -> list[Held]:
        left: dict[tuple[str, str], list[str]] = {}
        for row in db.execute("SELECT * FROM departures ORDER BY at"):
            left.setdefault((row["trial"], row["artefact"]), []).append(f"{row['how']}, {row['at']}")
        return [
            Held(
                trial=row["trial"],
                artefact=row["artefact"],
                label=row["label"],
                charge=charge_from_json(row["mechanisms"]),
                state=row["state"],
                plan=row["plan"],
                released=row["released"],
                processing=row["processing"],
                departures=tuple(left.get((row["trial"], row["artefact"]), ())),
            )
            for row in db.execute("SELECT * FROM charges ORDER BY rowid")
        ]


def _counted(charges: Sequence[Held]) -> tuple[str, list[Held]]:
    """The one declared plan to which all charges belong, empty if there is none; and the charges that count.

    What was dropped does not, but for members of a plan of which something has left: which others leave may depend on
    what that showed, so that only the whole is bounded.
    """
    active = [held for held in charges if held.state != "dropped"]
    plan = _declared_plan(active)
    if plan and any(held.released for held in active):
        return plan, [held for held in charges if held.plan == plan]
    return plan, active


def _declared_plan(active: Sequence[Held]) -> str:
    """Name of the one declared plan to which all charges belong; empty if there is none."""
    plans = {held.plan for held in active}
    return plans.pop() if len(plans) == 1 else ""


def _epsilon(held: Sequence[Held], *, order: float | None, delta: float, planned: bool) -> float:
    charges = [one.charge for one in held]
    if planned:
        return pld_epsilon_of(charges, delta=delta)
    if order is None:
        # No order holds the budget, or there is none: the least over all orders is told, and refused if it is asked.
        return rdp_epsilon_of(charges, delta=delta)
    return filter_epsilon(charges, order=order, delta=delta)


def _filter_text(order: float | None) -> str:
    return "RDP" if order is None else f"the RDP filter at order {order:g}"


def _spent_text(before: Sequence[Held], spent: float) -> str:
    released = sum(bool(held.released) for held in before)
    reserved = f", {len(before) - released} reserved" if len(before) > released else ""
    return f"ε = {spent:.4g} is spent ({released} released{reserved})"


def _labels(held: Sequence[Held]) -> str:
    return held[0].label if len(held) == 1 else f"{len(held)} trials"
