"""Other ledgers of the same people, which would grant them a second budget."""

from assay.errors import LedgerError
from assay.ledger.database import LedgerFile
from assay.ledger.patients import Patients
from assay.ledger.rows import budget_in_force, charges_on_record


def require_one_account(file: LedgerFile, patients: Patients, *, unguarded: bool) -> None:
    """Raises LedgerError if another ledger of the folder has released something of the same people.

    The records name a ledger, so the same people have two where they were read in two ways. Whether they are the
    same is told by their patients, where both name them; the name of the data set is the curator's word for it.

    Args:
        file: of the ledger that is about to release something.
        patients: whose records it guards.
        unguarded: whether it releases without a budget; then a ledger without one is no second account.

    Raises:
        LedgerError: there is one; names it.
    """
    for path in sorted(file.path.parent.glob("*.sqlite")):
        other = LedgerFile(path)
        theirs = Patients(other)
        if path.name == file.path.name or other.name != file.name:
            continue
        with other.reading() as db:
            released = sum(bool(held.released) for held in charges_on_record(db))
            counts = not unguarded or budget_in_force(db) is not None
        if released and counts and theirs.is_of_an_earlier_version:
            raise LedgerError(
                f"{path.name} is a ledger of {file.name} too, made by an earlier version and not continued, and it "
                f"has released {released}: give the data another name and train again, with a budget less what was "
                "spent there"
            )
        shared = patients.shared_with(theirs) if released and counts else 0
        if shared != 0:
            told = "nobody can tell whether they share patients" if shared is None else f"they share {shared} patients"
            raise LedgerError(
                f"{path.name} is a ledger of {file.name} too, of other records or of the same in another size, "
                f"length or form: {told}, it has released {released}, and two ledgers would grant the same people "
                "two budgets. Release what was trained on the records as that one holds them. If these are other "
                "people, say so: give the data another name, or patients' IDs as groups, and train again (after an "
                "erasure too, with a budget less what was spent there)"
            )
