"""Trainings of a ledger: how often each trial was trained, and what each training spent."""

import sqlite3
from dataclasses import dataclass

from assay.ledger.database import LedgerFile, now
from assay.ledger.experiments import Experiment, NoiseSource
from assay.privacy.composition import Charge, charge_from_json, charge_to_json


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One training, whatever its outcome: finished, failed, replaced, trained again or erased."""

    training: str
    """Identifier of the trained model; for ledgers of an earlier version, of the trial."""
    label: str
    noise: NoiseSource
    artefact: str
    """Hash of its weights; without weights, its number and location."""
    charge: Charge
    """The charge by its recipe; unbounded without privacy."""
    objection: str
    """Why its charge does not bound what it reveals, by its evaluation; empty if there is no objection."""


class TrainingTable:
    """All trainings on the records, released or not. Nothing here is charged.

    Args:
        file: of the ledger.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def trainings(self, results: str) -> list[TrainingRow]:
        """Returns every training of a study on these data; see ``LedgerProtocol.trainings``."""
        query = """SELECT trainings.*, label, noise FROM trainings JOIN experiments USING (trial, results)
        WHERE results = ? ORDER BY trainings.rowid"""
        with self._file.reading() as db:
            return [
                TrainingRow(
                    training=row["trial"],
                    label=row["label"],
                    noise=row["noise"],
                    artefact=row["artefact"],
                    charge=charge_from_json(row["mechanisms"]),
                    objection=row["objection"],
                )
                for row in db.execute(query, (results,))
            ]

    def begin(self, db: sqlite3.Connection, experiment: Experiment, charge: Charge) -> str:
        """Stores one more training; if the last one of this trial was interrupted, this resumes it.

        Args:
            db: open transaction.
            experiment: the trial.
            charge: of the training.

        Returns:
            The name of the training as long as it has no weights.
        """
        key = (experiment.training, experiment.results)
        query = "SELECT ended, artefact FROM trainings WHERE trial = ? AND results = ? ORDER BY number"
        earlier = db.execute(query, key).fetchall()
        if resumed := [str(row["artefact"]) for row in earlier if not row["ended"]]:
            return resumed[-1]
        number = len(earlier) + 1
        unnamed = f"training {number} in {experiment.results}"
        db.execute(
            "INSERT INTO trainings VALUES (?, ?, ?, ?, ?, '', '')", (*key, number, unnamed, charge_to_json(charge))
        )
        return unnamed

    def end(
        self, db: sqlite3.Connection, experiment: Experiment, artefact: str, objection: str, *, accounted: bool
    ) -> None:
        """Stores that the last training of a trial has ended; see ``LedgerProtocol.end``.

        Args:
            db: open transaction.
            experiment: the trial.
            artefact: hash of its weights; empty if there are none.
            objection: why its charge does not bound what it reveals; empty if there is no objection.
            accounted: whether the objection rests on a measured ε.
        """
        key = (experiment.training, experiment.results)
        if artefact:
            # A training that was charged by its number while it ran is not charged again by its weights.
            db.execute(
                """UPDATE OR IGNORE charges SET artefact = ? WHERE trial = ? AND artefact IN
                (SELECT artefact FROM trainings WHERE trial = ? AND results = ? AND ended = '')""",
                (artefact, experiment.training, *key),
            )
        db.execute(
            """UPDATE trainings SET ended = ?, objection = ?, artefact = coalesce(nullif(?, ''), artefact)
            WHERE trial = ? AND results = ? AND ended = ''""",
            (now(), objection, artefact, *key),
        )
        if accounted:
            # An evaluation after the end of the training may change the objection.
            db.execute(
                """UPDATE trainings SET objection = ?
                WHERE trial = ? AND results = ? AND artefact = ? AND objection != ?""",
                (objection, *key, artefact, objection),
            )
