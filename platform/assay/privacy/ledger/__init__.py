"""The ledger of one data set: what was done with its records, what was released of them, and what that spent.

Experiments stay with the curator and are recorded. Releasing, which is serving to others or exporting a model or a
report, is charged, composes with all that was released before, and is refused beyond the budget.
"""

from assay.privacy.ledger.charges import Charges
from assay.privacy.ledger.experiments import Experiments


class Ledger(Charges, Experiments):
    """One SQLite file a data set, safe with concurrent writers; see ``Charges`` and ``Experiments``."""
