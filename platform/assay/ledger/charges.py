"""What was released from a data set, what is reserved for trials that still run, and the budget that holds both."""

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from assay.errors import BudgetError, LedgerError
from assay.ledger.account import Account, Budget, ChargeOnRecord, ReleaseRequest, require_possible_charge
from assay.ledger.counting import charges_that_count, filter_text, labels, spent_text
from assay.ledger.counting import epsilon as together
from assay.ledger.database import LedgerFile, now
from assay.ledger.experiments import Processing, processing_id
from assay.ledger.patients import Patients
from assay.ledger.rows import (
    budget_in_force,
    charges_on_record,
    fix_order,
    insert_charge,
    note_departures,
    order_of_filter,
    state_of,
)
from assay.ledger.siblings import require_one_account
from assay.privacy.accounting import unsafe_delta
from assay.privacy.composition import filter_order, pld_epsilon_of, rdp_epsilon_of, unit_of

DELTA = 1e-5
"""δ of a ledger whose budget names none."""
_SLACK = 1e-9


class Charges:
    """What counts against the budget of a ledger.

    Only what may ever be released counts: training with ``noise: entropy``, and what was released or looked at.

    * A plan is *reserved* before its trainings begin, so that two never count on the same remainder. What never began
      may be given back.
    * What has begun is *trained* and counts for good: finished, failed, superseded, erased or not. Its result may have
      steered what followed. A training that was cut short and goes on is the same training; a trial that is trained
      anew is one more.
    * What has left is *released*: once, however often it is served. It counts for good.
    * A declared plan counts as a whole and for good from its declaration on, whichever part of it leaves.
    * While no budget is set nothing is promised: what began then are experiments, which the first budget does not
      count unless they leave, or whoever chooses by them says so (``looked_at``).

    All that counts is composed by an RDP filter at one order, fixed before the first training begins or the first
    release; or by PLD while the ledger holds one declared plan and nothing else.

    Together they protect a patient if every charge does, else a record. Where patients have several records, a charge
    that protects single records is refused once something counts that protects patients.

    Args:
        file: of the ledger.
        patients: whose records it guards.
    """

    def __init__(self, file: LedgerFile, patients: Patients) -> None:
        self._file, self._patients, self._name = file, patients, file.name

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        """Fix the budget, or with a reason change it; the same again changes nothing.

        A filter's bound holds for a budget that is fixed beforehand: who raises it after seeing releases must not do
        so because of what they show, and the reason stays on record.

        Raises:
            LedgerError: it is not positive, its δ promises nothing, it would change without a reason, or more is spent.
        """
        with self._file.writing(verified=True) as db:
            self._set_budget(db, epsilon, delta, reason)

    def reserve(self, request: ReleaseRequest) -> None:
        """Hold a part of the budget for a training that is planned. The same trial again holds nothing more.

        Raises:
            BudgetError: the budget does not hold it, with what is spent, asked and allowed.
            LedgerError: it costs nothing, its figures are none, or the ledger was changed by another hand.
        """
        require_possible_charge(request)
        with self._file.writing(verified=True) as db:
            self._reserve(db, request)

    def drop(self, trials: Iterable[str]) -> list[str]:
        """Give back what is reserved for trainings that never began; the labels of those trials that hold nothing now.

        What began stays, and so do releases and every part of a declared plan.
        """
        with self._file.writing() as db:
            return [label for trial in trials for label in self._drop(db, trial)]

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
        for request in (*requests, *looked_at, *(plan or ())):
            require_possible_charge(request)
        with self._file.folder_locked(), self._file.writing(undone=rehearsed, verified=True) as db:
            if epsilon is not None:
                self._set_budget(db, epsilon, delta, reason)
            elif budget_in_force(db) is None and not unguarded:
                raise LedgerError(
                    f"the ledger of {self._name} has no budget yet; give one, such as --budget 3 (budget=3 where a "
                    "model is served): the ε that everything ever released from these data may spend together"
                )
            if plan is not None:
                self._declare(db, plan, requests)
            asked = {(request.training, request.artefact): request for request in (*requests, *looked_at)}
            assert all(artefact for _, artefact in asked), "what leaves is named by the hash of its weights"
            fresh = [one for key, one in asked.items() if state_of(db, *key) != "released"]
            number = processing_id(db, processing) if fresh else None
            for request in fresh:
                insert_charge(db, request, "released", plan=self._taken(db, request), processing=number)
            if fresh or plan is not None:
                require_one_account(self._file, self._patients, unguarded=unguarded)
                self._admit(db, fresh)
            note_departures(db, requests, how)

    def account(self) -> Account:
        """How the budget stands, and every charge. Composing takes a second or two for each unlike mechanism."""
        with self._file.reading() as db:
            budget, charges, order = budget_in_force(db), charges_on_record(db), order_of_filter(db)
        delta = DELTA if budget is None else budget.delta
        plan, active = charges_that_count(charges)
        gone = [held for held in charges if held.released]
        out = [held.charge for held in gone]
        spent = active if plan and gone else gone
        return Account(
            budget=budget,
            accountant=f"PLD of the plan {plan}" if plan else filter_text(order),
            plan=plan,
            released=together(spent, order=order, delta=delta, planned=bool(plan)),
            held=together(active, order=order, delta=delta, planned=bool(plan)),
            rdp=rdp_epsilon_of(out, delta=delta),
            pld=pld_epsilon_of(out, delta=delta),
            delta=delta,
            charges=tuple(charges),
            unit=unit_of([held.charge for held in active]) or self._patients.unit,
        )

    def budgets(self) -> list[Budget]:
        """Every budget that was ever set, the last one in force."""
        with self._file.reading() as db:
            return [Budget(**dict(row)) for row in db.execute("SELECT * FROM budgets ORDER BY rowid")]

    def _reserve(self, db: sqlite3.Connection, request: ReleaseRequest) -> None:
        """Hold a part of the budget for a training that has not begun. One more such of the same trial holds nothing
        more, nor does one that was cut short and will go on.
        """
        query = """SELECT 1 FROM charges JOIN trainings USING (trial, artefact)
        WHERE trial = ? AND state = 'trained' AND ended = ''"""
        if state_of(db, request.training, "") == "reserved" or db.execute(query, (request.training,)).fetchone():
            return
        db.execute("DELETE FROM charges WHERE trial = ? AND artefact = '' AND state = 'dropped'", (request.training,))
        own = replace(request, artefact="")
        insert_charge(db, own, "reserved", plan="")
        self._admit(db, [own])

    def start(self, db: sqlite3.Connection, request: ReleaseRequest) -> None:
        """Count a training that begins, in the place of its reservation if it has one; a resumed one holds no more.

        Args:
            request: its artefact names this very training.
        """
        key = (request.training, request.artefact)
        state = state_of(db, *key)
        if state in ("trained", "released"):
            return
        db.execute("DELETE FROM charges WHERE trial = ? AND artefact = ?", key)
        db.execute("DELETE FROM charges WHERE trial = ? AND artefact = '' AND plan = ''", (request.training,))
        insert_charge(db, request, "trained", plan="")
        self._admit(db, [request])

    def _taken(self, db: sqlite3.Connection, request: ReleaseRequest) -> str:
        """Take away what was held for what now leaves; the name of its plan, empty if it belongs to none.

        That is the training that it comes from or, where none was noted, what was reserved for one.
        """
        for artefact in (request.artefact, ""):
            query = "SELECT plan FROM charges WHERE trial = ? AND artefact = ?"
            found = db.execute(query, (request.training, artefact)).fetchone()
            if found is not None:
                db.execute("DELETE FROM charges WHERE trial = ? AND artefact = ?", (request.training, artefact))
                return str(found["plan"])
        return ""

    def _drop(self, db: sqlite3.Connection, trial: str) -> list[str]:
        """Labels of what is dropped of a trial, now or before."""
        db.execute(
            "UPDATE charges SET state = 'dropped' WHERE trial = ? AND state = 'reserved' AND plan = ''", (trial,)
        )
        found = db.execute("SELECT label FROM charges WHERE trial = ? AND state = 'dropped' AND plan = ''", (trial,))
        return [str(row["label"]) for row in found]

    def _set_budget(self, db: sqlite3.Connection, epsilon: float, delta: float | None, reason: str) -> None:
        before = budget_in_force(db)
        delta = delta if delta is not None else DELTA if before is None else before.delta
        if not 0 < epsilon < math.inf:
            raise LedgerError(
                f"--budget {epsilon:g}: an ε above 0 is needed, which is finite", setting="--budget", given=epsilon
            )
        if not 0 < delta < 1:
            raise LedgerError(
                f"--delta {delta:g}: a δ above 0 is needed, far below 1/n = {1 / self._patients.units:g}",
                setting="--delta",
                given=delta,
                allowed=1 / self._patients.units,
            )
        if unsafe := unsafe_delta(delta, self._patients.units, unit=self._patients.unit):
            raise LedgerError(
                f"--delta {delta:g}: {unsafe}; set it below {1 / self._patients.units:g}",
                setting="--delta",
                given=delta,
                allowed=1 / self._patients.units,
            )
        if before is not None and (before.epsilon, before.delta) == (epsilon, delta):
            return
        if before is not None and not reason:
            raise LedgerError(
                f"the budget of {self._name} is ε = {before.epsilon:g} at δ = {before.delta:g}, not ε = {epsilon:g} at "
                f"δ = {delta:g}; leave --budget out, or change it and give --reason, which stays on record"
            )
        if before is None:
            # Whoever trained while there was no budget was promised no part of it.
            db.execute("UPDATE charges SET state = 'dropped' WHERE state IN ('reserved', 'trained') AND plan = ''")
        db.execute("INSERT INTO budgets VALUES (?, ?, ?, ?)", (now(), epsilon, delta, reason))
        self._admit(db, [])

    def _admit(self, db: sqlite3.Connection, asked: Sequence[ReleaseRequest]) -> None:
        """Raises BudgetError unless the budget holds the charges as they now stand; the transaction is then undone."""
        budget = budget_in_force(db)
        plan, active = charges_that_count(charges_on_record(db))
        if not active:
            return
        new = {(request.training, request.artefact) for request in asked}
        before = [held for held in active if (held.training, held.artefact) not in new]
        own = [held for held in active if (held.training, held.artefact) in new]
        if budget is None:
            # What was trained then is an experiment: only what has left has promised anything to patients.
            self._require_unit(*([held for held in ones if held.released] for ones in (before, own)))
            return
        self._require_unit(before, own)
        begun = any(held.released or held.state == "trained" for held in before)
        if not begun or order_of_filter(db) is None:
            # What begins or leaves first may say at which order all is counted, and nothing that is chosen later.
            fixing = [held.charge for held in (before if begun else active)]
            fix_order(db, filter_order(fixing, epsilon=budget.epsilon, delta=budget.delta))
        planned, order = bool(plan), order_of_filter(db)
        total = together(active, order=order, delta=budget.delta, planned=planned)
        if total <= budget.epsilon + _SLACK:
            return
        spent = together(before, order=order, delta=budget.delta, planned=planned)
        alone = together(own, order=order, delta=budget.delta, planned=planned)
        raise BudgetError(
            f"the ledger of {self._name} refuses: the budget is ε = {budget.epsilon:g} at δ = {budget.delta:g}, "
            f"{spent_text(before, spent)}, and "
            + (f"{labels(own)} asks ε = {alone:.4g} alone, " if own else "")
            + f"together ε = {total:.4g} by {'PLD' if planned else filter_text(order)}. Release or train less, "
            "drop reservations that nobody needs (jobs.ledger erase --reservations), or raise --budget with a --reason",
            setting="--budget",
            given=total,
            allowed=budget.epsilon,
        )

    def _require_unit(self, before: Sequence[ChargeOnRecord], own: Sequence[ChargeOnRecord]) -> None:
        """Raises LedgerError if a charge protects single records, where patients were promised more.

        Raises:
            LedgerError: a charge protects single records, and patients of these data have several.
        """
        units = [unit_of([held.charge for held in held_ones]) for held_ones in (before, own)]
        if self._patients.unit == "patient" and units == ["patient", "record"]:
            raise LedgerError(
                f"{labels(own)} protects single records, and what the ledger of {self._name} counts so far protects "
                f"patients, one of whom has {self._file.about('most_of_a_patient')} records: both together would "
                "protect records alone. Train it with privacy.unit: patient, or leave privacy.unit out",
                setting="privacy.unit",
                given="record",
                allowed="patient",
            )

    def _declare(
        self, db: sqlite3.Connection, plan: Sequence[ReleaseRequest], requests: Sequence[ReleaseRequest]
    ) -> None:
        """Hold a plan as a whole, for good. Its name is its content, so the same plan again is the same.

        Trainings of its trials that are no part of it stay beside it, and then the RDP filter counts.
        """
        trials = {request.training for request in plan}
        name = f"of {len(trials)} trials, {hashlib.sha256(' '.join(sorted(trials)).encode()).hexdigest()[:8]}"
        outside = [request.label for request in requests if request.training not in trials]
        if outside:
            raise LedgerError(f"{', '.join(outside)} is not in the declared plan; release it without --declared")
        rows = charges_on_record(db)
        if any(held.plan == name for held in rows):
            return
        if any(held.released or held.plan for held in rows):
            raise LedgerError(
                f"something was released or declared from {self._name} before, and this plan was not: it may have been "
                "chosen by what was released; leave --declared out, and the RDP filter counts"
            )
        units = {unit_of([request.charge]) for request in plan} - {None}
        if len(units) > 1:
            raise LedgerError(
                "some trials of the plan protect patients and others single records, which PLD does not add up; leave "
                "--declared out, and the RDP filter counts",
                setting="privacy.unit",
                given=sorted(map(str, units)),
                allowed="one unit",
            )
        for request in plan:
            self._taken(db, request)
            insert_charge(db, request, "trained" if request.artefact else "reserved", plan=name)
