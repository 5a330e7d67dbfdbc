"""How often each trial of a study was trained, and what that spent: whoever chose one could look at them all."""

import sqlite3
from dataclasses import dataclass

from assay.ledger.database import LedgerFile, now
from assay.ledger.experiments import Experiment, NoiseSource
from assay.privacy.composition import Charge, charge_from_json, charge_to_json


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One training of a trial, whatever became of it: finished, failed, superseded, trained anew or erased."""

    training: str
    """Names the trained model; of an earlier version the trial."""
    label: str
    noise: NoiseSource
    artefact: str
    """Hash of its weights; of one that left none, its number and where it was."""
    charge: Charge
    """What it spends by its recipe; unbounded without privacy."""
    objection: str
    """Why its charge does not bound what it reveals, as its evaluation found; empty if nothing was found."""


class TrainingTable:
    """How often each trial was trained on the records, released or not. Nothing here is charged.

    Args:
        file: of the ledger.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def trainings(self, results: str) -> list[TrainingRow]:
        """Every training of a study on these data, over all its cohorts and plans, in the order of their beginning.

        Args:
            results: where the study keeps its trials.
        """
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
        """Note one more training, unless the last one of this trial was cut short: then this resumes it.

        Returns:
            What the training is called as long as it has no weights.
        """
        key = (experiment.training, experiment.results)
        query = "SELECT ended, artefact FROM trainings WHERE trial = ? AND results = ? ORDER BY number"
        known = db.execute(query, key).fetchall()
        if resumed := [str(row["artefact"]) for row in known if not row["ended"]]:
            return resumed[-1]
        number = len(known) + 1
        unnamed = f"training {number} in {experiment.results}"
        db.execute(
            "INSERT INTO trainings VALUES (?, ?, ?, ?, ?, '', '')", (*key, number, unnamed, charge_to_json(charge))
        )
        return unnamed

    def end(self, db: sqlite3.Connection, experiment: Experiment, artefact: str, objection: str) -> None:
        """Note that the last training of a trial has ended; see ``Ledger.end``."""
        key = (experiment.training, experiment.results)
        if artefact:
            # One that was looked at while it ran, and charged by its number, is not charged again by its weights.
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
        # What was measured of it since it ended counts too.
        db.execute(
            "UPDATE trainings SET objection = ? WHERE trial = ? AND results = ? AND artefact = ? AND objection != ?",
            (objection, *key, artefact, objection),
        )
