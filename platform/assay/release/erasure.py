"""Deletes what was learnt from records: model and results of a trial; what was spent stays charged."""

from collections.abc import Iterable

from assay.ledger.experiments import Experiment
from assay.ledger.protocol import LedgerProtocol
from assay.store.folder import Store


def erase_trials(ledger: LedgerProtocol, experiments: Iterable[Experiment], *, asked: str) -> None:
    """Delete models and results; the ledger says which are gone, even if another job holds the rest.

    Args:
        asked: why, in words that stay on record.

    Raises:
        UserError: another job is writing the results.
    """
    gone: list[Experiment] = []
    try:
        for one in experiments:
            store = Store(one.results)
            with store.locked():
                store.delete(one.training)
            gone.append(one)
    finally:
        if gone:
            ledger.erased(gone, asked=asked)
