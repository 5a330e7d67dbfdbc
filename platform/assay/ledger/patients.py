"""The patients of a data set, stored in its ledger as hashes; ledgers of data with one name use the same hashes."""

import hashlib
import zlib

import numpy as np

from assay.errors import LedgerError
from assay.ledger.database import LedgerFile
from assay.privacy.unit import Unit

PATIENT_BYTES = 8


class Patients:
    """The patients of a ledger's data set.

    Args:
        file: of the ledger.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def positions_of(self, patient: str) -> np.ndarray:
        """Returns the positions of a patient's records; see ``LedgerProtocol.positions_of``."""
        hashes = self._hashes()
        if hashes is None:
            raise LedgerError(f"records of {self._file.name} name no patient; give --record and a position")
        positions = np.flatnonzero(hashes == np.void(patient_hash(self._salt, patient)))
        if not len(positions):
            raise LedgerError(f"no record of {self._file.name} is of patient {patient!r}")
        return positions

    def shared_with(self, other: "Patients") -> int | None:
        """Returns how many patients have records in both ledgers.

        Args:
            other: patients of another ledger.

        Returns:
            The number; None where it cannot be known.
        """
        ours, theirs = self._hashes(), other._hashes()
        if ours is None or theirs is None or self._salt != other._salt:
            return None
        return len(set(ours.tolist()) & set(theirs.tolist()))

    @property
    def units(self) -> int:
        """Number of patients, or of records where they name none: the n of δ < 1/n."""
        patients = self._hashes()
        return self._file.records if patients is None else len(np.unique(patients))

    @property
    def unit(self) -> Unit:
        """Who a budget should protect: patients where one of them has several records."""
        return "patient" if int(self._file.about("most_of_a_patient")) > 1 else "record"

    def _hashes(self) -> np.ndarray | None:
        """Returns (records,) hashes of the patients' IDs; None where records name no patients."""
        packed = self._file.facts["patients"]
        return np.frombuffer(zlib.decompress(packed), np.dtype((np.void, PATIENT_BYTES))) if packed else None

    @property
    def is_of_an_earlier_version(self) -> bool:
        """Whether the ledger's name depends on more than its records; nothing is charged to such a ledger any more."""
        return "salt" not in self._file.facts

    @property
    def _salt(self) -> str:
        return str(self._file.facts.get("salt", self._file.facts["digest"]))


def patient_hash(name: str, patient: object) -> bytes:
    """Returns the hash that replaces a patient's ID in the ledgers of data with this name.

    Args:
        name: of the data set.
        patient: ID of the patient.

    Returns:
        ``PATIENT_BYTES`` bytes.
    """
    return hashlib.sha256(f"{name} {patient}".encode()).digest()[:PATIENT_BYTES]
