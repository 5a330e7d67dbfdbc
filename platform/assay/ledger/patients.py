"""The patients of a data set, as its ledger knows them: by hashes that the ledgers of one name share."""

import hashlib
import zlib

import numpy as np

from assay.errors import LedgerError
from assay.ledger.database import LedgerFile
from assay.privacy.unit import Unit

PATIENT_BYTES = 8


class Patients:
    """Whose records a ledger guards.

    Args:
        file: of the ledger.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def positions_of(self, patient: str) -> np.ndarray:
        """Positions of a patient's records.

        Raises:
            LedgerError: records of these data have no patients, or none has this one.
        """
        hashes = self._hashes()
        if hashes is None:
            raise LedgerError(f"records of {self._file.name} name no patient; give --record and a position")
        found = np.flatnonzero(hashes == np.void(patient_hash(self._salt, patient)))
        if not len(found):
            raise LedgerError(f"no record of {self._file.name} is of patient {patient!r}")
        return found

    def shared_with(self, other: "Patients") -> int | None:
        """How many patients have records in both; None where nobody can tell."""
        ours, theirs = self._hashes(), other._hashes()
        if ours is None or theirs is None or self._salt != other._salt:
            return None
        return len(set(ours.tolist()) & set(theirs.tolist()))

    @property
    def units(self) -> int:
        """Patients of these data, or records where they name none: the n of δ < 1/n."""
        patients = self._hashes()
        return self._file.records if patients is None else len(np.unique(patients))

    @property
    def unit(self) -> Unit:
        """Whom a budget of these data should protect: patients where one of them has several records."""
        return "patient" if int(self._file.about("most_of_a_patient")) > 1 else "record"

    def _hashes(self) -> np.ndarray | None:
        """(records,) hashes of the patients' IDs; None where records name none."""
        packed = self._file.facts["patients"]
        return np.frombuffer(zlib.decompress(packed), np.dtype((np.void, PATIENT_BYTES))) if packed else None

    @property
    def is_of_an_earlier_version(self) -> bool:
        """Whether it was named by more than its records, so that nothing is charged to it any more."""
        return "salt" not in self._file.facts

    @property
    def _salt(self) -> str:
        return str(self._file.facts.get("salt", self._file.facts["digest"]))


def patient_hash(name: str, patient: object) -> bytes:
    """Stands for a patient's ID in the ledgers of a data set of that name."""
    return hashlib.sha256(f"{name} {patient}".encode()).digest()[:PATIENT_BYTES]
