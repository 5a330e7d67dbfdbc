"""The rows of a ledger that hold charges: read, written, and nothing decided."""

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
    """Write one charge."""
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
    """How a charge stands; None if there is none."""
    found = db.execute("SELECT state FROM charges WHERE trial = ? AND artefact = ?", (trial, artefact)).fetchone()
    return None if found is None else found["state"]


def note_departures(db: sqlite3.Connection, requests: Sequence[ReleaseRequest], how: str) -> None:
    """Note where models went, and when."""
    rows = [(request.training, request.artefact, how, now()) for request in requests]
    db.executemany("INSERT OR IGNORE INTO departures VALUES (?, ?, ?, ?)", rows)


def budget_in_force(db: sqlite3.Connection) -> Budget | None:
    """The budget that was set last; None before the first."""
    row = db.execute("SELECT * FROM budgets ORDER BY rowid DESC LIMIT 1").fetchone()
    return None if row is None else Budget(**dict(row))


def order_of_filter(db: sqlite3.Connection) -> float | None:
    """The order at which the RDP filter counts; None before it is fixed."""
    row = db.execute("SELECT value FROM about WHERE key = 'order'").fetchone()
    return None if row is None else float(row["value"])


def fix_order(db: sqlite3.Connection, order: float | None) -> None:
    """Fix the order of the RDP filter, or forget it."""
    db.execute("DELETE FROM about WHERE key = 'order'")
    if order is not None:
        db.execute("INSERT INTO about VALUES ('order', ?)", (order,))


def charges_on_record(db: sqlite3.Connection) -> list[ChargeOnRecord]:
    """Every charge, in the order of writing."""
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
