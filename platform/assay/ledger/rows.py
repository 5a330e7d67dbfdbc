"""Reading and writing of the ledger's rows of charges, without any decision."""

import sqlite3
from collections.abc import Sequence

from assay.errors import LedgerError
from assay.ledger.account import Budget, ChargeOnRecord, ChargeState, ReleaseRequest
from assay.ledger.database import now
from assay.privacy.composition import charge_from_json, charge_to_json, spends


def insert_charge(
    db: sqlite3.Connection,
    request: ReleaseRequest,
    state: ChargeState,
    *,
    plan: str,
    processing: int | None = None,
) -> None:
    """Writes one charge.

    Args:
        db: open transaction.
        request: the model or training and its charge.
        state: of the charge.
        plan: name of its declared plan, or empty.
        processing: number of the purpose of a release.

    Raises:
        LedgerError: the charge spends nothing.
    """
    if not spends(request.charge):
        raise LedgerError(
            f"{request.label}: no mechanism that spends anything is known of it, and nothing private costs "
            "nothing; train it again, so that its account is noted"
        )
    released = now() if state == "released" else ""
    db.execute(
        "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.training,
            request.artefact,
            request.label,
            charge_to_json(request.charge),
            state,
            plan,
            now(),
            released,
            processing,
        ),
    )


def state_of(db: sqlite3.Connection, trial: str, artefact: str) -> ChargeState | None:
    """Returns the state of a charge.

    Args:
        db: connection to the ledger.
        trial: identifier of the training.
        artefact: hash of the weights; empty for a reservation.

    Returns:
        The state; None if there is no such charge.
    """
    row = db.execute("SELECT state FROM charges WHERE trial = ? AND artefact = ?", (trial, artefact)).fetchone()
    return None if row is None else row["state"]


def note_departures(db: sqlite3.Connection, requests: Sequence[ReleaseRequest], how: str) -> None:
    """Stores the destination and the time of releases.

    Args:
        db: open transaction.
        requests: the released models.
        how: destination, as text.
    """
    rows = [(request.training, request.artefact, how, now()) for request in requests]
    db.executemany("INSERT OR IGNORE INTO departures VALUES (?, ?, ?, ?)", rows)


def budget_in_force(db: sqlite3.Connection) -> Budget | None:
    """Returns the budget that was set last.

    Args:
        db: connection to the ledger.

    Returns:
        The budget; None before the first.
    """
    row = db.execute("SELECT * FROM budgets ORDER BY rowid DESC LIMIT 1").fetchone()
    return None if row is None else Budget(**dict(row))


def order_of_filter(db: sqlite3.Connection) -> float | None:
    """Returns the order of the RDP filter.

    Args:
        db: connection to the ledger.

    Returns:
        The order; None before it is fixed.
    """
    row = db.execute("SELECT value FROM about WHERE key = 'order'").fetchone()
    return None if row is None else float(row["value"])


def fix_order(db: sqlite3.Connection, order: float | None) -> None:
    """Fixes the order of the RDP filter, or deletes it.

    Args:
        db: open transaction.
        order: of the filter; None deletes it.
    """
    db.execute("DELETE FROM about WHERE key = 'order'")
    if order is not None:
        db.execute("INSERT INTO about VALUES ('order', ?)", (order,))


def charges_on_record(db: sqlite3.Connection) -> list[ChargeOnRecord]:
    """Returns every charge, in the order of writing.

    Args:
        db: connection to the ledger.

    Returns:
        The charges.
    """
    left: dict[tuple[str, str], list[str]] = {}
    for row in db.execute("SELECT * FROM departures ORDER BY at"):
        left.setdefault((row["trial"], row["artefact"]), []).append(f"{row['how']}, {row['at']}")
    return [
        ChargeOnRecord(
            training=row["trial"],
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
