"""Other ledgers of the same people, which would grant them a second budget."""

from assay.errors import LedgerError
from assay.ledger.rows import ChargeRows


class Siblings(ChargeRows):
    """The part of a ledger that looks at the others in its folder."""

    def _refuse_second_account(self, *, unguarded: bool) -> None:
        """Let pass what has no other ledger in this folder that has released something of the same people.

        The records name a ledger, so the same people have two where they were read in two ways. Whether they are the
        same is told by their patients, where both name them; the name of the data set is the curator's word for it.

        Raises:
            LedgerError: there is one.
        """
        for path in sorted(self.path.parent.glob("*.sqlite")):
            other = type(self)(path)
            if path.name == self.path.name or other.name != self.name:
                continue
            with other._reading() as db:
                released = sum(bool(held.released) for held in other._held(db))
                counts = not unguarded or other._budget(db) is not None
            if released and counts and other.is_of_an_earlier_version:
                raise LedgerError(
                    f"{path.name} is a ledger of {self.name} too, made by an earlier version and not continued, and it "
                    f"has released {released}: give the data another name and train again, with a budget less what was "
                    "spent there"
                )
            shared = self.patients_shared_with(other) if released and counts else 0
            if shared != 0:
                told = (
                    "nobody can tell whether they share patients" if shared is None else f"they share {shared} patients"
                )
                raise LedgerError(
                    f"{path.name} is a ledger of {self.name} too, of other records or of the same in another size, "
                    f"length or form: {told}, it has released {released}, and two ledgers would grant the same people "
                    "two budgets. Release what was trained on the records as that one holds them. If these are other "
                    "people, say so: give the data another name, or patients' IDs as groups, and train again (after an "
                    "erasure too, with a budget less what was spent there)"
                )
