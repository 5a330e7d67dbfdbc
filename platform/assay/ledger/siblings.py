"""Check for other ledgers of the same patients, which would grant them a second budget."""

from assay.errors import LedgerError
from assay.ledger.database import LedgerFile
from assay.ledger.patients import Patients
from assay.ledger.rows import budget_in_force, charges_on_record


def require_one_account(file: LedgerFile, patients: Patients, *, unguarded: bool) -> None:
    """Raises an error if another ledger of the folder has released a model trained on the same patients.

    The name of a ledger depends on the records, so the same patients have two ledgers where they were read in two ways.
    Hashes of patients' IDs show whether they are the same, where both ledgers have them. Data with other names count as
    other patients: the curator is responsible for the name.

    Args:
        file: of the ledger that is about to release a model.
        patients: of its data set.
        unguarded: whether it releases without a budget; then another ledger without one does not count.

    Raises:
        LedgerError: there is such a ledger; names it.
    """
    for path in sorted(file.path.parent.glob("*.sqlite")):
        other = LedgerFile(path)
        theirs = Patients(other)
        if path.name == file.path.name or other.name != file.name:
            continue
        with other.reading() as db:
            released = sum(bool(record.released) for record in charges_on_record(db))
            counts = not unguarded or budget_in_force(db) is not None
        if released and counts and theirs.is_of_an_earlier_version:
            raise LedgerError(
                f"{path.name} is a ledger of {file.name} too, made by an earlier version and not continued, and it "
                f"has released {released}: give the data another name and train again, with a budget less what was "
                "spent there"
            )
        shared = patients.shared_with(theirs) if released and counts else 0
        if shared != 0:
            overlap = (
                "nobody can tell whether they share patients" if shared is None else f"they share {shared} patients"
            )
            raise LedgerError(
                f"{path.name} is a ledger of {file.name} too, of other records or of the same in another size, "
                f"length or form: {overlap}, it has released {released}, and two ledgers would grant the same people "
                "two budgets. Release what was trained on the records as that one holds them. If these are other "
                "people, say so: give the data another name, or patients' IDs as groups, and train again (after an "
                "erasure too, with a budget less what was spent there)"
            )
