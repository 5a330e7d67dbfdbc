"""Experiments of a ledger: the trials that used the data, their purpose, their retention dates and their records."""

import hashlib
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from assay.errors import LedgerError
from assay.ledger.database import LedgerFile, now

ROLES = ("unused", "trained on", "validated on", "calibrated on", "tested on")
"""Roles of a record in a trial, by code."""
UNFINISHED = "has not ended"
"""Error text of a trial that began and may have been killed."""
NoiseSource = Literal["", "seeded", "entropy"]


@dataclass(frozen=True, kw_only=True)
class Processing:
    """Purpose of processing patients' records, as a record of processing must state it (GDPR, Article 30)."""

    purpose: str = ""
    legal_basis: str = ""
    """As the curator states it, such as ``Art. 6(1)(e), 9(2)(j)``; empty if none was stated."""
    until: str = ""
    """Retention date, YYYY-MM-DD: the last day on which results may be kept; empty if none was stated."""

    def __post_init__(self) -> None:
        try:
            valid = not self.until or date.fromisoformat(self.until).isoformat() == self.until
        except ValueError:
            valid = False
        if not valid:
            raise LedgerError(f"--until {self.until!r} is no day; write it as 2031-12-31")

    def refuse_past(self, today: str) -> None:
        """Raises an error where the retention date has passed.

        Args:
            today: YYYY-MM-DD.

        Raises:
            LedgerError: the date lies before today.
        """
        if "" < self.until < today:
            raise LedgerError(
                f"--until {self.until} is over, and today is {today}: all of it would expire at once; name a day that "
                "is still to come"
            )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One trial that used the data."""

    training: str
    """Identifier of the trained model; for ledgers of an earlier version, of the trial."""
    results: str
    """Folder or URI of its results."""
    label: str
    noise: NoiseSource
    """Empty for a training without privacy."""
    error: str = ""
    """Why it failed; empty if it finished."""
    at: str = ""
    """Time of its end."""
    erased: str = ""
    """Time when its model and results were deleted; empty if they were not."""
    processing: Processing = Processing()


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Use of records by one trial."""

    experiment: Experiment
    role: str
    """One of ``ROLES``."""
    departures: tuple[str, ...]
    """Destinations of the trial's model or results, with times; released copies cannot be withdrawn."""


class ExperimentTable:
    """The trials of a ledger, their purposes, and the erasures. Nothing here is charged.

    Args:
        file: of the ledger.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def experiments(self) -> list[Experiment]:
        """Returns every trial that used the data; see ``LedgerProtocol.experiments``."""
        with self._file.reading() as db:
            return [_experiment(row) for row in db.execute(f"{_JOINED} ORDER BY experiments.rowid")]

    def processings(self) -> list[tuple[Processing, int, int]]:
        """Returns every stated purpose; see ``LedgerProtocol.processings``."""
        with self._file.reading() as db:
            counted = """SELECT purpose, legal_basis, until,
            (SELECT COUNT(*) FROM experiments WHERE experiments.processing = processing.id) AS experiments,
            (SELECT COUNT(*) FROM charges WHERE charges.processing = processing.id) AS releases
            FROM processing ORDER BY id"""
            return [
                (
                    Processing(purpose=row["purpose"], legal_basis=row["legal_basis"], until=row["until"]),
                    row["experiments"],
                    row["releases"],
                )
                for row in db.execute(counted)
            ]

    def expired(self, today: str) -> list[Experiment]:
        """Returns trials past their retention date; see ``LedgerProtocol.expired``."""
        with self._file.reading() as db:
            rows = db.execute(
                """SELECT trial, until FROM charges JOIN processing ON processing.id = charges.processing
                WHERE until != '' ORDER BY until DESC"""
            )
            released = {row["trial"]: row["until"] for row in rows}
        return [
            experiment
            for experiment in self.experiments()
            if not experiment.erased
            and "" < (experiment.processing.until or released.get(experiment.training, "")) < today
        ]

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        """Returns every trial that used one of these records; see ``LedgerProtocol.traces``."""
        rows = np.asarray(positions, int)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._file.records:
            raise LedgerError(f"--record {rows.max()}: {self._file.name} has records 0 to {self._file.records - 1}")
        with self._file.reading() as db:
            used = {}
            for row in db.execute("SELECT id, roles FROM parts"):
                codes = np.frombuffer(zlib.decompress(row["roles"]), np.uint8)[rows]
                used[row["id"]] = int(codes[codes > 0].min(initial=len(ROLES)))
            left: dict[str, list[str]] = {}
            for row in db.execute("SELECT * FROM departures ORDER BY at"):
                left.setdefault(row["trial"], []).append(f"{row['how']}, {row['at']}")
            return [
                Trace(
                    experiment=_experiment(row),
                    role=ROLES[used[row["parts"]]],
                    departures=tuple(left.get(row["trial"], ())),
                )
                for row in db.execute(f"{_JOINED} ORDER BY experiments.rowid")
                if used[row["parts"]] < len(ROLES)
            ]

    def erasures(self) -> list[tuple[str, str, str]]:
        """Returns all erasures; see ``LedgerProtocol.erasures``."""
        with self._file.reading() as db:
            return [tuple(row) for row in db.execute("SELECT * FROM erasures")]

    def record(self, db: sqlite3.Connection, experiment: Experiment, roles: np.ndarray) -> None:
        """Stores a trial that begins or has ended; an earlier entry of the same trial is replaced.

        Args:
            db: open transaction.
            experiment: the trial.
            roles: (records,) uint8, the role of each record as an index of ``ROLES``.
        """
        content = np.ascontiguousarray(roles, np.uint8).tobytes()
        parts = hashlib.sha256(content).hexdigest()[:16]
        # All recipes of a fold have the same roles, which are stored once.
        if db.execute("SELECT 1 FROM parts WHERE id = ?", (parts,)).fetchone() is None:
            db.execute("INSERT INTO parts VALUES (?, ?)", (parts, zlib.compress(content, 9)))
        purpose = processing_id(db, experiment.processing)
        noted = "SELECT processing FROM experiments WHERE trial = ? AND results = ?"
        before = db.execute(noted, (experiment.training, experiment.results)).fetchone()
        if before is not None and experiment.processing == Processing():
            # No purpose is stated now, so the earlier one stays, with its retention date.
            purpose = int(before["processing"])
        db.execute(
            "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
            (
                experiment.training,
                experiment.results,
                experiment.label,
                experiment.noise,
                now(),
                experiment.error,
                parts,
                purpose,
            ),
        )

    def erase(self, db: sqlite3.Connection, one: Experiment) -> bool:
        """Stores that a trial was deleted.

        Args:
            db: open transaction.
            one: the trial.

        Returns:
            False if that was stored before.
        """
        query = "UPDATE experiments SET erased = ? WHERE trial = ? AND results = ? AND erased = ''"
        return bool(db.execute(query, (now(), one.training, one.results)).rowcount)

    def note_erasure(self, db: sqlite3.Connection, asked: str, erased: str) -> None:
        """Stores an erasure.

        Args:
            db: open transaction.
            asked: the request, as text.
            erased: what was deleted, as text.
        """
        db.execute("INSERT INTO erasures VALUES (?, ?, ?)", (now(), asked, erased))


def processing_id(db: sqlite3.Connection, processing: Processing) -> int:
    """Returns the number of a statement of purpose; stores a new one.

    Args:
        db: open transaction.
        processing: the statement.

    Returns:
        Its number.
    """
    statement = (processing.purpose, processing.legal_basis, processing.until)
    db.execute("INSERT OR IGNORE INTO processing (purpose, legal_basis, until) VALUES (?, ?, ?)", statement)
    query = "SELECT id FROM processing WHERE purpose = ? AND legal_basis = ? AND until = ?"
    return int(db.execute(query, statement).fetchone()["id"])


_JOINED = """SELECT experiments.*, purpose, legal_basis, until
FROM experiments JOIN processing ON processing.id = experiments.processing"""


def _experiment(row: sqlite3.Row) -> Experiment:
    return Experiment(
        training=row["trial"],
        results=row["results"],
        label=row["label"],
        noise=row["noise"],
        error=row["error"],
        at=row["at"],
        erased=row["erased"],
        processing=Processing(purpose=row["purpose"], legal_basis=row["legal_basis"], until=row["until"]),
    )
