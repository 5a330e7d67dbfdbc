"""Charges of a ledger: releases, trainings and reservations, and the budget that limits them."""

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
    """The charges that count against the budget of a ledger.

    Only models that may be released count: trainings with ``noise: entropy``, releases, and models that influenced the
    choice of a release.

    * A plan is *reserved* before its trainings begin, so that two plans never use the same part of the budget. A
      reservation whose training never began may be dropped.
    * A training that began is *trained* and counts permanently: finished, failed, replaced, erased or not. Its result
    may
      have influenced what followed. A training that was interrupted and resumed is one training; a trial that is
      trained
      again is another.
    * A model that left is *released*. It counts once, however often it is served, and permanently.
    * A declared plan counts as a whole and permanently from its declaration on, whichever part of it is released.
    * Without a budget nothing is guaranteed. Trainings that began then are experiments: the first budget does not count
      them unless they are released, or named as having influenced a release (``looked_at``).

    All that counts is composed by an RDP filter at one order, which is fixed before the first training or release; or
    by
    PLD while the ledger holds one declared plan and nothing else.

    The total protects patients if every charge does, otherwise single records. Where patients have several records, a
    charge that protects single records is refused once the ledger counts one that protects patients.

    Args:
        file: of the ledger.
        patients: of the data set.
    """

    def __init__(self, file: LedgerFile, patients: Patients) -> None:
        self._file, self._patients, self._name = file, patients, file.name

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        """Sets the budget, or changes it with a reason; see ``LedgerProtocol.set_budget``."""
        with self._file.writing(verified=True) as db:
            self._set_budget(db, epsilon, delta, reason)

    def reserve(self, request: ReleaseRequest) -> None:
        """Reserves a part of the budget for a planned training; see ``LedgerProtocol.reserve``."""
        require_possible_charge(request)
        with self._file.writing(verified=True) as db:
            self._reserve(db, request)

    def drop(self, trials: Iterable[str]) -> list[str]:
        """Releases the reservations of trainings that never began; see ``LedgerProtocol.drop``."""
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
        """Charges models before they are released, all or none; see ``LedgerProtocol.release``."""
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
            fresh = [request for key, request in asked.items() if state_of(db, *key) != "released"]
            number = processing_id(db, processing) if fresh else None
            for request in fresh:
                insert_charge(db, request, "released", plan=self._taken(db, request), processing=number)
            if fresh or plan is not None:
                require_one_account(self._file, self._patients, unguarded=unguarded)
                self._admit(db, fresh)
            note_departures(db, requests, how)

    def account(self) -> Account:
        """Returns the state of the budget, and every charge; see ``LedgerProtocol.account``."""
        with self._file.reading() as db:
            budget, charges, order = budget_in_force(db), charges_on_record(db), order_of_filter(db)
        delta = DELTA if budget is None else budget.delta
        plan, active = charges_that_count(charges)
        released = [record for record in charges if record.released]
        released_charges = [record.charge for record in released]
        spent = active if plan and released else released
        return Account(
            budget=budget,
            accountant=f"PLD of the plan {plan}" if plan else filter_text(order),
            plan=plan,
            released=together(spent, order=order, delta=delta, planned=bool(plan)),
            held=together(active, order=order, delta=delta, planned=bool(plan)),
            rdp=rdp_epsilon_of(released_charges, delta=delta),
            pld=pld_epsilon_of(released_charges, delta=delta),
            delta=delta,
            charges=tuple(charges),
            unit=unit_of([record.charge for record in active]) or self._patients.unit,
        )

    def budgets(self) -> list[Budget]:
        """Returns every budget that was ever set; see ``LedgerProtocol.budgets``."""
        with self._file.reading() as db:
            return [Budget(**dict(row)) for row in db.execute("SELECT * FROM budgets ORDER BY rowid")]

    def _reserve(self, db: sqlite3.Connection, request: ReleaseRequest) -> None:
        """Reserves a part of the budget for a training that has not begun.

        It does nothing if the training has a reservation, or was interrupted and will be resumed.
        """
        query = """SELECT 1 FROM charges JOIN trainings USING (trial, artefact)
        WHERE trial = ? AND state = 'trained' AND ended = ''"""
        if state_of(db, request.training, "") == "reserved" or db.execute(query, (request.training,)).fetchone():
            return
        db.execute("DELETE FROM charges WHERE trial = ? AND artefact = '' AND state = 'dropped'", (request.training,))
        reservation = replace(request, artefact="")
        insert_charge(db, reservation, "reserved", plan="")
        self._admit(db, [reservation])

    def start(self, db: sqlite3.Connection, request: ReleaseRequest) -> None:
        """Counts a training that begins, instead of its reservation if it has one; a resumed training is not counted
        again.

        Args:
            db: open transaction.
            request: its ``artefact`` names this training.

        Raises:
            BudgetError: the budget is too small.
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
        """Removes the charge that a release replaces, and returns the name of its plan; empty if it belongs to none.

        That is the charge of its training or, where none was recorded, of its reservation.
        """
        for artefact in (request.artefact, ""):
            query = "SELECT plan FROM charges WHERE trial = ? AND artefact = ?"
            charge = db.execute(query, (request.training, artefact)).fetchone()
            if charge is not None:
                db.execute("DELETE FROM charges WHERE trial = ? AND artefact = ?", (request.training, artefact))
                return str(charge["plan"])
        return ""

    def _drop(self, db: sqlite3.Connection, trial: str) -> list[str]:
        """Drops the reservation of a training, and returns the labels of all its dropped charges."""
        db.execute(
            "UPDATE charges SET state = 'dropped' WHERE trial = ? AND state = 'reserved' AND plan = ''", (trial,)
        )
        dropped = db.execute("SELECT label FROM charges WHERE trial = ? AND state = 'dropped' AND plan = ''", (trial,))
        return [str(row["label"]) for row in dropped]

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
            # Trainings from the time without a budget do not count against the first one.
            db.execute("UPDATE charges SET state = 'dropped' WHERE state IN ('reserved', 'trained') AND plan = ''")
        db.execute("INSERT INTO budgets VALUES (?, ?, ?, ?)", (now(), epsilon, delta, reason))
        self._admit(db, [])

    def _admit(self, db: sqlite3.Connection, asked: Sequence[ReleaseRequest]) -> None:
        """Raises BudgetError if the current charges exceed the budget; the transaction is then rolled back."""
        budget = budget_in_force(db)
        plan, active = charges_that_count(charges_on_record(db))
        if not active:
            return
        new = {(request.training, request.artefact) for request in asked}
        before = [record for record in active if (record.training, record.artefact) not in new]
        added = [record for record in active if (record.training, record.artefact) in new]
        if budget is None:
            # Trainings without a budget are experiments: only releases guarantee anything to patients.
            self._require_unit(*([record for record in records if record.released] for records in (before, added)))
            return
        self._require_unit(before, added)
        begun = any(record.released or record.state == "trained" for record in before)
        if not begun or order_of_filter(db) is None:
            # The first trainings or releases fix the order of the filter; later ones must not influence it.
            fixing = [record.charge for record in (before if begun else active)]
            fix_order(db, filter_order(fixing, epsilon=budget.epsilon, delta=budget.delta))
        planned, order = bool(plan), order_of_filter(db)
        total = together(active, order=order, delta=budget.delta, planned=planned)
        if total <= budget.epsilon + _SLACK:
            return
        spent = together(before, order=order, delta=budget.delta, planned=planned)
        alone = together(added, order=order, delta=budget.delta, planned=planned)
        raise BudgetError(
            f"the ledger of {self._name} refuses: the budget is ε = {budget.epsilon:g} at δ = {budget.delta:g}, "
            f"{spent_text(before, spent)}, and "
            + (f"{labels(added)} asks ε = {alone:.4g} alone, " if added else "")
            + f"together ε = {total:.4g} by {'PLD' if planned else filter_text(order)}. Release or train less, "
            "drop reservations that nobody needs (jobs.ledger erase --reservations), or raise --budget with a --reason",
            setting="--budget",
            given=total,
            allowed=budget.epsilon,
        )

    def _require_unit(self, before: Sequence[ChargeOnRecord], added: Sequence[ChargeOnRecord]) -> None:
        """Raises an error if a charge protects single records where the ledger protects patients.

        Raises:
            LedgerError: a new charge protects single records, and patients of these data have several.
        """
        units = [unit_of([record.charge for record in records]) for records in (before, added)]
        if self._patients.unit == "patient" and units == ["patient", "record"]:
            raise LedgerError(
                f"{labels(added)} protects single records, and what the ledger of {self._name} counts so far protects "
                f"patients, one of whom has {self._file.about('most_of_a_patient')} records: both together would "
                "protect records alone. Train it with privacy.unit: patient, or leave privacy.unit out",
                setting="privacy.unit",
                given="record",
                allowed="patient",
            )

    def _declare(
        self, db: sqlite3.Connection, plan: Sequence[ReleaseRequest], requests: Sequence[ReleaseRequest]
    ) -> None:
        """Reserves a whole plan permanently. Its name is a hash of its content, so declaring it again changes nothing.

        Trainings of its trials that are not part of it are counted besides, and then the RDP filter applies.
        """
        trials = {request.training for request in plan}
        name = f"of {len(trials)} trials, {hashlib.sha256(' '.join(sorted(trials)).encode()).hexdigest()[:8]}"
        outside = [request.label for request in requests if request.training not in trials]
        if outside:
            raise LedgerError(f"{', '.join(outside)} is not in the declared plan; release it without --declared")
        rows = charges_on_record(db)
        if any(record.plan == name for record in rows):
            return
        if any(record.released or record.plan for record in rows):
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
