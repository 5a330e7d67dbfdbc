"""Erasure of models and results of trials; their charges stay."""

from collections.abc import Iterable

from assay.ledger.experiments import Experiment
from assay.ledger.protocol import LedgerProtocol
from assay.store.folder import Store


def erase_trials(ledger: LedgerProtocol, experiments: Iterable[Experiment], *, asked: str) -> None:
    """Deletes models and results; the ledger records which are deleted, even if the erasure stops at an error.

    Args:
        ledger: of the data.
        experiments: the trials.
        asked: the request, as text that stays on record.

    Raises:
        UserError: another job is writing the results.
    """
    deleted: list[Experiment] = []
    of_results: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        of_results.setdefault(experiment.results, []).append(experiment)
    try:
        for results, own in of_results.items():
            store = Store(results)
            with store.locked():
                store.delete(*(experiment.training for experiment in own))
            deleted += own
    finally:
        if deleted:
            ledger.erased(deleted, asked=asked)
