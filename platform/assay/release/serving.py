"""Release of a model that is served to others: charged once, before its first answer."""

from contextlib import AbstractContextManager
from pathlib import Path

from assay.errors import LedgerError
from assay.ledger import Ledger
from assay.ledger.experiments import Processing
from assay.release.candidates import candidates, require_releasable, require_same_weights
from assay.release.ledgers import Opening, ledger_folder, open_ledger
from assay.store.folder import Store
from assay.study.finished import Finished


def release_served(
    finished: Finished,
    *,
    results: str,
    known_as: str,
    purpose: str,
    ledger: str | None = None,
    budget: float | None = None,
    joined: AbstractContextManager[None],
    opening: Opening = Ledger.create,
) -> None:
    """Charges a model before it is served to others; once, however often it is started.

    A model without privacy has no finite ε. It is served as long as its data have no budget. This is recorded as a
    release,
    and no budget can be kept afterwards.

    Args:
        finished: the trained model.
        results: folder or URI of its study.
        known_as: the name under which it is served.
        purpose: for the processing record.
        ledger: folder of the ledgers; beside that of the results by default.
        budget: total ε of all releases from the data; needed at the first release.
        joined: context in which the ledger is used; joins the cluster whose actor writes it.
        opening: function that opens a ledger.

    Raises:
        LedgerError: a private model may not be released, the budget is too small, or there is none.
        CheckpointError: it was trained again meanwhile.
    """
    if finished.recipe is None:
        # Assay did not train it, so its training records are unknown.
        return
    folder = ledger_folder(results, ledger)
    if folder is None and not finished.private:
        return
    if folder is None:
        message = f"results lie at {results}, and a ledger needs a folder: give ledger=FOLDER"
        raise LedgerError(message, setting="ledger", given=results)
    (chosen,) = candidates(Store(results), finished.trial)
    if finished.private:
        require_releasable([chosen])
    require_same_weights(finished.trial, chosen=finished.artefact, found=chosen.request.artefact)
    with joined:
        account = open_ledger(finished.dataset, results=results, folder=folder, opening=opening)
        before = account.budgets()
        if before and budget not in (None, before[-1].epsilon):
            raise _other_budget(budget or 0.0, before[-1].epsilon, account.name, folder)
        account.release(
            [chosen.request],
            how=f"served as {known_as}",
            processing=Processing(purpose=purpose),
            epsilon=None if before else budget,
            unguarded=not finished.private,
        )


def _other_budget(budget: float, set_before: float, name: str, folder: Path) -> LedgerError:
    return LedgerError(
        f"budget={budget:g}: the budget of {name} is ε = {set_before:g}; leave budget out, or change it first: "
        f"jobs.ledger show {folder} --budget {budget:g} --reason WHY",
        setting="budget",
        given=budget,
        allowed=set_before,
    )
